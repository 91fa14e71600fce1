// The torch half of the CPU engine: tensors in, tensors out, threads in between.
#pragma once

#include <algorithm>
#include <memory>
#include <tuple>

#include "../tensors.h"
#include "isa.h"

namespace rarepixel::cpu {

// Chunks of what one thread works on: fewer pixels where each has many logits.
inline Regions plan_regions(const Tensor& logits, Balance balance, std::int64_t of_group,
                            std::int64_t logits_of_pixel = 1) {
  const std::int64_t smallest = std::max<std::int64_t>(1, 16 / logits_of_pixel) * kBlock;
  return cut_regions(logits, balance, of_group, {kBlock, smallest, 256});
}

// Calls run(first chunk, last chunk) for parts of first ... last, from several threads if there is work for them.
template <class Run>
void parallel_over_chunks(const Regions& regions, std::int64_t first, std::int64_t last, std::int64_t logits_of_pixel,
                          const Run& run) {
  if (first >= last || regions.pixels == 0) return;
  constexpr std::int64_t kLogitsWorthAThread = 16 * kBlock;
  const std::int64_t chunk_logits = std::min(regions.chunk_pixels, regions.pixels) * logits_of_pixel;
  torch::stable::parallel_for(first, last, std::max<std::int64_t>(1, kLogitsWorthAThread / chunk_logits), run);
}

template <class Run>
void parallel_over_chunks(const Regions& regions, std::int64_t logits_of_pixel, const Run& run) {
  parallel_over_chunks(regions, 0, regions.count * regions.chunks, logits_of_pixel, run);
}

template <class Real>
void store_loss(Tensor& loss, const double* values, std::int64_t groups, Reduction reduction) {
  Real* to = static_cast<Real*>(loss.mutable_data_ptr());
  if (reduction == Reduction::kNone) {
    std::copy(values, values + groups, to);
    return;
  }
  double sum = 0;
  for (std::int64_t g = 0; g < groups; ++g) sum += values[g];
  *to = static_cast<Real>(reduction == Reduction::kMean && groups > 0 ? sum / static_cast<double>(groups) : sum);
}

struct Forward {
  Tensor loss;               // () or one value per group
  Tensor table;              // [rows, RegionTable<Loss>::kColumns], float64
  std::int64_t invalid = 0;  // labels that mean nothing, over all regions
};

// settle: from the sums of each region's chunks to the rows of the table and the loss.
template <class Loss>
Forward settle(const Loss& loss, const Regions& regions, const double* partial_sums, const Tensor& table,
               const Tensor& out, Reduction reduction) {
  using Table = RegionTable<Loss>;
  constexpr int kSums = Loss::kNumSums + 1;
  Forward forward{out, table, 0};
  double* rows = static_cast<double*>(table.mutable_data_ptr());
  for (std::int64_t r = 0; r < regions.count; ++r) {
    double* row = rows + r * Table::kColumns;
    std::fill(row, row + kSums, 0.0);
    for (std::int64_t c = 0; c < regions.chunks; ++c) {
      for (int s = 0; s < kSums; ++s) row[s] += partial_sums[(r * regions.chunks + c) * kSums + s];
    }
    forward.invalid += static_cast<std::int64_t>(row[Table::kInvalid]);
  }
  const std::int64_t groups = regions.count / regions.of_group;
  const auto values = std::make_unique<double[]>(groups);
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t first = g * regions.of_group;
    values[g] = settle_group(loss, rows + first * Table::kColumns, regions.of_group, reduction, groups, first);
  }
  if (out.scalar_type() == ScalarType::Double) store_loss<double>(forward.loss, values.get(), groups, reduction);
  else store_loss<float>(forward.loss, values.get(), groups, reduction);
  return forward;
}

// What a thread works in that sees all classes of a pixel: too much for the stacks of some threads.
class Scratch {
 public:
  template <class ClassKernels>
  Scratch(const ClassKernels& kernels, const ClassProblem& problem)
      : memory_(std::make_unique_for_overwrite<unsigned char[]>(kernels.scratch_bytes(problem))) {}
  void* memory() const { return memory_.get(); }

 private:
  std::unique_ptr<unsigned char[]> memory_;
};

// What operators.h asks of an engine.
struct Engine {
  static constexpr bool kIsCpu = true;

  // reduce and settle. `table` is empty_table<Loss>(), with the found numbers if the loss has any; `problem` holds what
  // the loss is about besides the inputs (random numbers, kept bits, segments).
  template <class Declared, class Loss>
  static Forward forward(const Loss& loss, const Inputs& inputs, Reduction reduction, const Tensor& table,
                         ReduceProblem& problem) {
    const Kernels<Loss> kernels = kernels_for_this_machine<KernelsOf<Declared>>();
    const Tensor out = empty_loss<Loss>(inputs.logits, inputs.balance, reduction);
    if constexpr (Loss::kSeesClasses) {
      ClassProblem classes = class_problem_of(loss, problem, inputs, plan_images(inputs));
      const Regions rows = classes.rows(classes.chunks_of_region());
      const auto partial_sums = memory_for_sums<Loss>(rows);
      classes.partial_sums = partial_sums.get();
      parallel_over_chunks(classes.images, classes.classes, [&](std::int64_t first, std::int64_t last) {
        kernels.reduce(loss, classes, first, last, Scratch(kernels, classes).memory());
      });
      return cpu::settle(loss, rows, partial_sums.get(), table, out, reduction);
    } else {
      set_inputs(problem, inputs, plan<Loss>(inputs));
      const auto partial_sums = memory_for_sums<Loss>(problem.regions);
      problem.table = static_cast<const double*>(table.const_data_ptr());
      problem.partial_sums = partial_sums.get();
      parallel_over_chunks(problem.regions, 1,
                           [&](std::int64_t first, std::int64_t last) { kernels.reduce(loss, problem, first, last); });
      return cpu::settle(loss, problem.regions, partial_sums.get(), table, out, reduction);
    }
  }

  // settle alone, of rows of sums that were added up elsewhere.
  template <class Loss>
  static Forward settle(const Loss& loss, const Tensor& sums, const Tensor& table, const Tensor& out,
                        Reduction reduction, std::int64_t of_group) {
    return cpu::settle(loss, rows_of(sums, of_group), static_cast<const double*>(sums.const_data_ptr()), table, out,
                       reduction);
  }

  // map: the gradient, in the logits' dtype and strides. `problem` as in forward.
  template <class Declared, class Loss>
  static Tensor backward(const Loss& loss, const Tensor& upstream,  // () or one value per group
                         const Inputs& inputs,
                         const Tensor& table,  // [rows, RegionTable<Loss>::kColumns]
                         MapProblem& problem) {
    const Kernels<Loss> kernels = kernels_for_this_machine<KernelsOf<Declared>>();
    const Tensor gradient = empty_gradient(inputs.logits);
    if constexpr (Loss::kSeesClasses) {
      ClassProblem classes = class_problem_of(loss, problem, inputs, plan_images(inputs));
      set_gradient(classes, upstream, table, gradient);
      parallel_over_chunks(classes.images, classes.classes, [&](std::int64_t first, std::int64_t last) {
        kernels.map(loss, classes, first, last, Scratch(kernels, classes).memory());
      });
    } else {
      set_inputs(problem, inputs, plan<Loss>(inputs));
      set_gradient(problem, upstream, table, gradient);
      parallel_over_chunks(problem.regions, 1,
                           [&](std::int64_t first, std::int64_t last) { kernels.map(loss, problem, first, last); });
    }
    return gradient;
  }

  // What a forward operator returns: also how many pixels are invalid, for which Python raises.
  template <class... Further>
  static std::tuple<Tensor, Tensor, Further..., std::int64_t> results(const Forward& forward,
                                                                      const std::tuple<Further...>& further) {
    return std::tuple_cat(std::tuple(forward.loss, forward.table), further, std::tuple(forward.invalid));
  }

  // Stages before reduce; stages.h says what they do. (threshold.cpp, segments.cpp)
  static void find_thresholds(const Inputs& inputs, const Tensor& k, bool is_share, double* found,
                              std::int64_t columns);
  static std::int64_t weigh_segments(const Inputs& inputs, const Segments& segments, std::int64_t count,
                                     double min_coverage, Tensor& weights, Tensor& thickness);

 private:
  template <class Loss>
  static Regions plan(const Inputs& inputs) {
    return plan_regions(inputs.logits, inputs.balance, regions_of_group<Loss>(inputs.logits));
  }

  static Regions plan_images(const Inputs& inputs) {
    return plan_regions(inputs.logits, Balance::kChannel, 1, inputs.logits.size(1));
  }

  template <class Loss>
  static std::unique_ptr<double[]> memory_for_sums(const Regions& regions) {
    return std::make_unique<double[]>(regions.count * regions.chunks * (Loss::kNumSums + 1));
  }
};

}  // namespace rarepixel::cpu
