#include "../segment_thickness.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "thinning.cuh"

namespace rarepixel::cuda {
namespace {

__device__ void add(std::int64_t& count, int pixels) {
  // Whole numbers: their sum does not depend on the order.
  if (pixels > 0) atomicAdd(reinterpret_cast<unsigned long long*>(&count), static_cast<unsigned long long>(pixels));
}

// What lies in the range of each segment. The lanes of a warp that see the same segment add together.
__global__ void __launch_bounds__(kThreads)
    count_kernel(const __grid_constant__ Problem problem, BitImages images, SegmentCounts* counts) {
  for_each_word(images, [&](std::int64_t word) {
    const WordOfWarp at(images, word);
    const int lane = threadIdx.x % kWarp;
    const std::int64_t image = word / (images.rows * images.words);
    const std::int32_t id = at.inside ? static_cast<const std::int32_t*>(problem.segments.ids.data)[at.pixel] : 0;
    const std::int64_t* const starts = problem.segments.starts + image;
    bool counted = id != 0 && is_known(id, starts), positive = false;
    if (counted) {
      const GroupBits<false> bits(problem, rule_of(problem.labels, image), at.pixel, 1);
      counted = bits.counts != 0;
      positive = bits.positive != 0;
    }
    const unsigned int pixels = __ballot_sync(kWholeWarp, counted);
    const unsigned int annotated_skeleton = __ballot_sync(kWholeWarp, id < 0);
    const unsigned int annotated = __ballot_sync(kWholeWarp, positive);
    if (counted) {
      const std::uint32_t number = magnitude(id);
      const unsigned int same = __match_any_sync(pixels, number);
      if (lane == __ffs(static_cast<int>(same)) - 1) {
        SegmentCounts& count = counts[starts[0] + number - 1];
        add(count.annotated_skeleton, __popc(same & annotated_skeleton));
        add(count.annotated, __popc(same & annotated));
        add(count.predicted_skeleton, __popc(same & images.bits[word]));
        add(count.predicted, __popc(same & images.before[word]));
      }
    }
  });
}

template <class Real>
__global__ void __launch_bounds__(kThreads) compare_kernel(const SegmentCounts* counts, std::int64_t segments,
                                                           double min_coverage, Real* weights, Real* thickness) {
  const std::int64_t segment = std::int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (segment == 0) weights[0] = 0;
  if (segment >= segments) return;
  const ComparedSegment compared = compare(counts[segment], min_coverage);
  weights[1 + segment] = static_cast<Real>(compared.weight);
  thickness[2 * segment] = static_cast<Real>(compared.annotated_thickness);
  thickness[2 * segment + 1] = static_cast<Real>(compared.predicted_thickness);
}

// The stage before reduce: threshold, thin, count, compare.
void weigh_segments(const Tensor& logits,  // [N, 1, H, W]
                    const Labels& labels, const Segments& segments, std::int64_t count, double min_coverage,
                    Tensor& weights,      // [count + 1]
                    Tensor& thickness) {  // [count, 2]
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const cudaStream_t stream = current_stream(logits);
  const Tensor zeros = empty_on_device_of(logits, {count + 1, sizeof(SegmentCounts) / 8}, ScalarType::Long);
  SegmentCounts* const counts = static_cast<SegmentCounts*>(zeros.mutable_data_ptr());
  STD_CUDA_CHECK(cudaMemsetAsync(counts, 0, sizeof(SegmentCounts) * (count + 1), stream));
  if (logits.numel() > 0) {
    const BitImagesMemory memory(logits, logits.size(0), logits.size(2), logits.size(3), true);
    Problem problem;
    fill_problem(problem, logits, labels, plan_regions(logits, Balance::kImage));
    problem.segments = segments;
    pack(problem.logits, memory.images, stream);
    thin(logits, memory.images, stream);
    count_kernel<<<blocks_for_words(memory.images), kThreads, 0, stream>>>(problem, memory.images, counts);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  const unsigned int blocks = static_cast<unsigned int>(count / kThreads + 1);
  const auto launch = [&](auto real) {
    using Real = decltype(real);
    compare_kernel<Real><<<blocks, kThreads, 0, stream>>>(counts, count, min_coverage,
                                                          static_cast<Real*>(weights.mutable_data_ptr()),
                                                          static_cast<Real*>(thickness.mutable_data_ptr()));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  };
  if (loss_dtype(logits) == ScalarType::Double) launch(0.0);
  else launch(0.0f);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> segment_thickness(const Tensor& logits,               // [N, 1, H, W]
                                                             const Tensor& target,               // [N, 1, H, W]
                                                             const std::optional<Tensor>& mask,  // the same, expanded
                                                             std::optional<std::int64_t> ignore_index,
                                                             std::int64_t balance, std::int64_t reduction,
                                                             const Tensor& ids,     // [N, H, W], int32, contiguous
                                                             const Tensor& starts,  // [N + 1], int64, contiguous
                                                             std::int64_t segments,
                                                             const std::vector<double>& pixel_weights,
                                                             double min_coverage) {
  const Balance over = static_cast<Balance>(balance);
  const Labels labels = labels_of(target, mask, ignore_index);
  Tensor weights = empty_on_device_of(logits, {segments + 1}, loss_dtype(logits));
  Tensor thickness = empty_on_device_of(logits, {segments, 2}, loss_dtype(logits));
  ReduceProblem problem;
  problem.segments = segments_of(ids, starts, weights);
  weigh_segments(logits, labels, problem.segments, segments, min_coverage, weights, thickness);
  SegmentThickness loss;
  std::copy(pixel_weights.begin(), pixel_weights.end(), loss.pixel_weights);
  const Forward out = forward(loss, logits, labels, over, static_cast<Reduction>(reduction), problem);
  return {out.loss, out.table, weights, thickness};
}

Tensor segment_thickness_backward(const Tensor& upstream,             // [] or [N]
                                  const Tensor& logits,               // [N, 1, H, W]
                                  const Tensor& target,               // [N, 1, H, W]
                                  const std::optional<Tensor>& mask,  // [N, 1, H, W], expanded
                                  std::optional<std::int64_t> ignore_index,
                                  const Tensor& table,  // [N, columns]
                                  std::int64_t balance,
                                  const Tensor& ids,        // [N, H, W], int32, contiguous
                                  const Tensor& starts,     // [N + 1], int64, contiguous
                                  const Tensor& weights) {  // [segments + 1]
  MapProblem problem;
  problem.segments = segments_of(ids, starts, weights);
  return backward(SegmentThickness{}, upstream, logits, labels_of(target, mask, ignore_index),
                  static_cast<Balance>(balance), table, problem);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) {
  m.impl("segment_thickness", TORCH_BOX(&segment_thickness));
  m.impl("segment_thickness_backward", TORCH_BOX(&segment_thickness_backward));
}

}  // namespace rarepixel::cuda
