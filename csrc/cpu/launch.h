// The torch half of the CPU engine: tensors in, tensors out, threads in between.
#pragma once

#include <algorithm>
#include <memory>

#include "../tensors.h"
#include "isa.h"

namespace rarepixel::cpu {

// Chunks depend on the size of a region alone, never on the number of threads: sums are added in one order always.
inline Regions plan_regions(const Tensor& logits, Balance balance, std::int64_t of_group = 1,
                            std::int64_t logits_of_pixel = 1) {
  constexpr std::int64_t kMaxChunks = 256;
  const std::int64_t min_chunk = std::max<std::int64_t>(1, 16 / logits_of_pixel) * kBlock;
  Regions regions;
  regions.logits = logits_of_pixel;
  regions.count = count_regions(logits, balance);
  regions.of_group = of_group;
  regions.pixels = pixels_of_a_region(logits, balance);
  const std::int64_t even_share = (regions.pixels + kMaxChunks - 1) / kMaxChunks;
  regions.chunk_pixels = std::max(min_chunk, (even_share + kBlock - 1) / kBlock * kBlock);
  regions.chunks = (regions.pixels + regions.chunk_pixels - 1) / regions.chunk_pixels;
  return regions;
}

// Calls run(first chunk, last chunk) for parts of first ... last, from several threads if there is work for them.
template <class Run>
void parallel_over_chunks(const Regions& regions, std::int64_t first, std::int64_t last, const Run& run) {
  if (first >= last || regions.pixels == 0) return;
  constexpr std::int64_t kLogitsWorthAThread = 16 * kBlock;
  const std::int64_t chunk_logits = std::min(regions.chunk_pixels, regions.pixels) * regions.logits;
  torch::stable::parallel_for(first, last, std::max<std::int64_t>(1, kLogitsWorthAThread / chunk_logits), run);
}

template <class Run>
void parallel_over_chunks(const Regions& regions, const Run& run) {
  parallel_over_chunks(regions, 0, regions.count * regions.chunks, run);
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
  Tensor table;              // [regions, RegionTable<Loss>::kColumns], float64
  std::int64_t invalid = 0;  // labels that are neither 0, 1 nor ignored, over all regions
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
    double* group_rows = rows + g * regions.of_group * Table::kColumns;
    values[g] = settle_group(loss, group_rows, regions.of_group, reduction, groups);
  }
  if (out.scalar_type() == ScalarType::Double) store_loss<double>(forward.loss, values.get(), groups, reduction);
  else store_loss<float>(forward.loss, values.get(), groups, reduction);
  return forward;
}

// reduce and settle. `problem` holds what the loss is about besides the labels (random numbers, kept bits, segments),
// `table` is empty_table<Loss>(), with the selected numbers if the loss has any.
template <class Loss>
Forward forward(const Loss& loss, const Tensor& logits, const Labels& labels, Balance balance, Reduction reduction,
                const Tensor& table, ReduceProblem problem = {}) {
  const Regions regions = plan_regions(logits, balance, regions_of_group<Loss>(logits));
  const auto partial_sums = std::make_unique<double[]>(regions.count * regions.chunks * (Loss::kNumSums + 1));
  problem.regions = regions;
  problem.logits = view_of(logits);
  problem.labels = labels;
  problem.table = static_cast<const double*>(table.const_data_ptr());
  problem.partial_sums = partial_sums.get();
  const Kernels<Loss> kernels = kernels_for_this_machine<Loss>();
  parallel_over_chunks(regions,
                       [&](std::int64_t first, std::int64_t last) { kernels.reduce(loss, problem, first, last); });
  return settle(loss, regions, partial_sums.get(), table, empty_loss<Loss>(logits, balance, reduction), reduction);
}

template <class Loss>
Forward forward(const Loss& loss, const Tensor& logits, const Labels& labels, Balance balance, Reduction reduction,
                const ReduceProblem& problem = {}) {
  static_assert(Loss::kNumSelected == 0, "this loss needs a table with its selected numbers");
  return forward(loss, logits, labels, balance, reduction, empty_table<Loss>(logits, balance), problem);
}

// map: the gradient, in the logits' dtype and strides. `problem` as in forward.
template <class Loss>
Tensor backward(const Loss& loss, const Tensor& upstream,  // () or one value per group
                const Tensor& logits, const Labels& labels, Balance balance,
                const Tensor& table,  // [regions, RegionTable<Loss>::kColumns]
                MapProblem problem = {}) {
  Tensor gradient = empty_gradient(logits);
  problem.regions = plan_regions(logits, balance, regions_of_group<Loss>(logits));
  problem.logits = view_of(logits);
  problem.labels = labels;
  problem.table = static_cast<const double*>(table.const_data_ptr());
  problem.upstream = view_of(upstream);
  problem.upstream_per_group = upstream.dim() > 0;
  problem.gradient = view_of(gradient);
  const Kernels<Loss> kernels = kernels_for_this_machine<Loss>();
  parallel_over_chunks(problem.regions,
                       [&](std::int64_t first, std::int64_t last) { kernels.map(loss, problem, first, last); });
  return gradient;
}

}  // namespace rarepixel::cpu
