// The host's half of the CUDA engine: tensors in, tensors out, launches in between.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "../tensors.h"
#include "class_engine.cuh"
#include "engine.cuh"

namespace rarepixel::cuda {

// Chunks of what one block works on. An image of 1024 x 1024 makes 256, about two for each processor of an H100. Not less
// than two tiles: a block's beginning and its sum are about half as many instructions as a tile.
inline Regions plan_regions(const Tensor& logits, Balance balance, std::int64_t of_group) {
  return cut_regions(logits, balance, of_group, {kTile, 2 * kTile, kMaxChunks});
}

// The same of pixels with all their classes, which take a thread many times as long: eight of them are enough.
inline Regions plan_images(const Tensor& logits) {
  return cut_regions(logits, Balance::kChannel, 1, {kThreads, 8 * kThreads, kMaxChunks});
}

inline cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

inline unsigned int grid_for(const Regions& regions) {
  const std::int64_t blocks = regions.count * regions.chunks;
  STD_TORCH_CHECK(blocks <= 0x7fffffff, "rarepixel: too many regions for one launch: ", regions.count);
  return static_cast<unsigned int>(blocks);
}

// Calls run(kWide, Logit{}, Real{}): how tensors are accessed, the logits' element type, the type it is computed in.
template <class Run>
void with_types(bool wide, DType dtype, const Run& run) {
  const auto with_access = [&](auto logit, auto real) {
    if (wide) return run(std::true_type{}, logit, real);
    return run(std::false_type{}, logit, real);
  };
  switch (dtype) {
    case DType::kFloat16: return with_access(Float16{}, 0.0f);
    case DType::kBFloat16: return with_access(BFloat16{}, 0.0f);
    case DType::kFloat64: return with_access(0.0, 0.0);
    default: return with_access(0.0f, 0.0f);
  }
}

// Calls run(kClassTile, kHeld, Logit{}, Real{}) for a number of classes and a type known only when the program runs.
template <class Run>
void with_classes(int classes, DType dtype, const Run& run) {
  with_types(false, dtype, [&](auto, auto logit, auto real) {
    if (classes <= 4) run(std::integral_constant<int, 4>{}, std::true_type{}, logit, real);
    else if (classes <= 8) run(std::integral_constant<int, 8>{}, std::true_type{}, logit, real);
    else run(std::integral_constant<int, 8>{}, std::false_type{}, logit, real);
  });
}

inline dim3 class_grid(const ClassProblem& problem, int tile) {
  return {grid_for(problem.images), static_cast<unsigned int>((problem.classes + tile - 1) / tile)};
}

// One block for one region or a few small ones; what the last of many has left to do is short.
inline unsigned int settle_grid(const Regions& regions) {
  constexpr std::int64_t kMostBlocks = 256;
  const std::int64_t at_once = settled_by_warp(regions) ? kSettleWarps : 1;
  return static_cast<unsigned int>(std::clamp<std::int64_t>((regions.count + at_once - 1) / at_once, 1, kMostBlocks));
}

inline bool lies_in_quads(const RegionProblem& problem, const TensorView& other) {
  const std::int64_t pixels = problem.regions.pixels;
  return lies_in_quads(problem.logits, pixels) && lies_in_quads(problem.labels.target, pixels) &&
         lies_in_quads(problem.labels.mask, pixels) && lies_in_quads(problem.weights, pixels) &&
         lies_in_quads(problem.segments.ids, pixels) && lies_in_quads(other, pixels);
}

struct Forward {
  Tensor loss;               // () or one value per group
  Tensor table;              // [rows, RegionTable<Loss>::kColumns], float64
  std::int64_t invalid = 0;  // the host does not know
};

// The memory of a forward: what settle works in, and the sums of chunks.
class ForwardMemory {
 public:
  ForwardMemory(const Tensor& like, std::int64_t groups, std::int64_t sums)
      : tensor_(empty_on_device_of(like, {groups + 1 + sums}, ScalarType::Double)) {
    double* const values = static_cast<double*>(tensor_.mutable_data_ptr());
    settle = {values, reinterpret_cast<unsigned int*>(values + groups)};
    partial_sums = values + groups + 1;
  }

  // For a settle without a reduce.
  void clear_ticket(cudaStream_t stream) const {
    STD_CUDA_CHECK(cudaMemsetAsync(settle.ticket, 0, sizeof *settle.ticket, stream));
  }

  SettleMemory settle;
  double* partial_sums;  // [regions, chunks, kNumSums + 1]

 private:
  Tensor tensor_;
};

// settle: from the sums of each region's chunks to the rows of the table and the loss.
template <class Loss>
Forward settle(const Loss& loss, const Regions& regions, const double* partial_sums, const SettleMemory& memory,
               const Tensor& table, const Tensor& out, Reduction reduction, cudaStream_t stream) {
  double* rows = static_cast<double*>(table.mutable_data_ptr());
  const auto launch = [&](auto real) {
    using Real = decltype(real);
    settle_kernel<Loss, Real><<<settle_grid(regions), kSettleThreads, 0, stream>>>(
        loss, regions, reduction, partial_sums, rows, memory, static_cast<Real*>(out.mutable_data_ptr()));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  };
  if (out.scalar_type() == ScalarType::Double) launch(0.0);
  else launch(0.0f);
  return {out, table};
}

// What operators.h asks of an engine.
struct Engine {
  static constexpr bool kIsCpu = false;

  // reduce and settle. `table` is empty_table<Loss>(), with the found numbers if the loss has any; `problem` holds what
  // the loss is about besides the inputs (random numbers, kept bits, segments).
  template <class Declared, class Loss>
  static Forward forward(const Loss& loss, const Inputs& inputs, Reduction reduction, const Tensor& table,
                         ReduceProblem& problem) {
    const Tensor& logits = inputs.logits;
    const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
    const cudaStream_t stream = current_stream(logits);
    const Tensor out = empty_loss<Loss>(logits, inputs.balance, reduction);
    if constexpr (Loss::kSeesClasses) {
      ClassProblem classes = class_problem_of(loss, problem, inputs, plan_images(logits));
      const Regions rows = classes.rows(classes.chunks_of_region());
      const ForwardMemory memory = memory_for<Loss>(logits, rows);
      classes.partial_sums = memory.partial_sums;
      if (grid_for(classes.images) == 0) {
        memory.clear_ticket(stream);
      } else {
        with_classes(classes.classes, classes.logits.dtype,
                     [&]<class Tile, class Held, class Logit, class Real>(Tile, Held, Logit, Real) {
                       reduce_classes_kernel<Tile::value, Held::value, Loss, Logit, Real>
                           <<<class_grid(classes, Tile::value), kThreads, 0, stream>>>(loss, classes,
                                                                                       memory.settle.ticket);
                       STD_CUDA_KERNEL_LAUNCH_CHECK();
                     });
      }
      return cuda::settle(loss, rows, memory.partial_sums, memory.settle, table, out, reduction, stream);
    } else {
      set_inputs(problem, inputs, plan_regions(logits, inputs.balance, regions_of_group<Loss>(logits)));
      const ForwardMemory memory = memory_for<Loss>(logits, problem.regions);
      problem.table = static_cast<const double*>(table.const_data_ptr());
      problem.partial_sums = memory.partial_sums;
      const unsigned int blocks = grid_for(problem.regions);
      if (blocks == 0) {
        memory.clear_ticket(stream);
      } else {
        const bool wide = lies_in_quads(problem, problem.uniform);
        const LabelCodes codes(problem.labels, 0);
        with_types(wide, problem.logits.dtype, [&]<class Wide, class Logit, class Real>(Wide, Logit, Real) {
          reduce_kernel<Wide::value, Loss, Logit, Real>
              <<<blocks, kThreads, 0, stream>>>(loss, problem, codes, memory.settle.ticket);
          STD_CUDA_KERNEL_LAUNCH_CHECK();
        });
      }
      return cuda::settle(loss, problem.regions, memory.partial_sums, memory.settle, table, out, reduction, stream);
    }
  }

  // settle alone, of rows of sums that were added up elsewhere.
  template <class Loss>
  static Forward settle(const Loss& loss, const Tensor& sums, const Tensor& table, const Tensor& out,
                        Reduction reduction, std::int64_t of_group) {
    const torch::stable::accelerator::DeviceGuard guard(sums.get_device_index());
    const cudaStream_t stream = current_stream(sums);
    const Regions rows = rows_of(sums, of_group);
    const ForwardMemory memory(sums, rows.count / of_group, 0);
    if (settle_grid(rows) > 1) memory.clear_ticket(stream);
    return cuda::settle(loss, rows, static_cast<const double*>(sums.const_data_ptr()), memory.settle, table, out,
                        reduction, stream);
  }

  // map: the gradient, in the logits' dtype and strides. `problem` as in forward.
  template <class Declared, class Loss>
  static Tensor backward(const Loss& loss, const Tensor& upstream,  // () or one value per group
                         const Inputs& inputs,
                         const Tensor& table,  // [rows, RegionTable<Loss>::kColumns]
                         MapProblem& problem) {
    const Tensor& logits = inputs.logits;
    const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
    const cudaStream_t stream = current_stream(logits);
    const Tensor gradient = empty_gradient(logits);
    if constexpr (Loss::kSeesClasses) {
      ClassProblem classes = class_problem_of(loss, problem, inputs, plan_images(logits));
      set_gradient(classes, upstream, table, gradient);
      if (grid_for(classes.images) == 0) return gradient;
      with_classes(classes.classes, classes.logits.dtype,
                   [&]<class Tile, class Held, class Logit, class Real>(Tile, Held, Logit, Real) {
                     map_classes_kernel<Tile::value, Held::value, Loss, Logit, Real>
                         <<<class_grid(classes, Tile::value), kThreads, 0, stream>>>(loss, classes);
                     STD_CUDA_KERNEL_LAUNCH_CHECK();
                   });
    } else {
      set_inputs(problem, inputs, plan_regions(logits, inputs.balance, regions_of_group<Loss>(logits)));
      set_gradient(problem, upstream, table, gradient);
      const unsigned int blocks = grid_for(problem.regions);
      if (blocks == 0) return gradient;
      const bool wide = lies_in_quads(problem, problem.gradient);
      const LabelCodes codes(problem.labels, 0);
      with_types(wide, problem.logits.dtype, [&]<class Wide, class Logit, class Real>(Wide, Logit, Real) {
        map_kernel<Wide::value, Loss, Logit, Real><<<blocks, kThreads, 0, stream>>>(loss, problem, codes);
        STD_CUDA_KERNEL_LAUNCH_CHECK();
      });
    }
    return gradient;
  }

  // What a forward operator returns. How many pixels are invalid the host does not know: their loss is NaN.
  template <class... Further>
  static std::tuple<Tensor, Tensor, Further...> results(const Forward& forward, const std::tuple<Further...>& further) {
    return std::tuple_cat(std::tuple(forward.loss, forward.table), further);
  }

  // Stages before reduce; stages.h says what they do. (threshold.cu, segments.cu)
  static void find_thresholds(const Inputs& inputs, const Tensor& k, bool is_share, double* found,
                              std::int64_t columns);
  static std::int64_t weigh_segments(const Inputs& inputs, const Segments& segments, std::int64_t count,
                                     double min_coverage, Tensor& weights, Tensor& thickness);

 private:
  template <class Loss>
  static ForwardMemory memory_for(const Tensor& logits, const Regions& rows) {
    return {logits, rows.count / rows.of_group, rows.count * rows.chunks * (Loss::kNumSums + 1)};
  }
};

}  // namespace rarepixel::cuda
