// Skeletons, and how a prediction compares with segments. Segment maps are made on the CPU, once an annotation.
#include <torch/csrc/stable/library.h>

#include "../losses/segment_thickness.h"
#include "thinning.cuh"

namespace rarepixel::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) unpack_kernel(BitImages images, std::uint8_t* pixels) {
  for_each_word(images, [&](std::int64_t word) {
    const WordOfWarp at(images, word);
    if (at.inside) pixels[at.pixel] = images.bits[word] >> (threadIdx.x % kWarp) & 1;
  });
}

Tensor thin_op(const Tensor& mask) {  // [*, H, W], bool or uint8, contiguous
  const torch::stable::accelerator::DeviceGuard guard(mask.get_device_index());
  const auto sizes = mask.sizes();
  Tensor skeleton = empty_on_device_of(mask, {sizes.begin(), sizes.end()}, ScalarType::Bool);
  const std::int64_t rows = mask.size(mask.dim() - 2), columns = mask.size(mask.dim() - 1);
  if (mask.numel() == 0) return skeleton;
  const cudaStream_t stream = current_stream(mask);
  const BitImagesMemory memory(mask, mask.numel() / (rows * columns), rows, columns, false);
  TensorView pixels;
  pixels.data = const_cast<void*>(mask.const_data_ptr());
  pixels.dtype = DType::kByte;
  pixels.rank = 1;
  pixels.size[0] = mask.numel();
  pixels.stride[0] = 1;
  pack(pixels, memory.images, stream);
  thin(mask, memory.images, stream);
  unpack_kernel<<<blocks_for_words(memory.images), kThreads, 0, stream>>>(
      memory.images, static_cast<std::uint8_t*>(skeleton.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return skeleton;
}

__device__ void add(std::int64_t& count, int pixels) {
  // Whole numbers: their sum does not depend on the order.
  if (pixels > 0) atomicAdd(reinterpret_cast<unsigned long long*>(&count), static_cast<unsigned long long>(pixels));
}

// What lies in the range of each segment. The lanes of a warp that see the same segment add together.
__global__ void __launch_bounds__(kThreads)
    count_kernel(const __grid_constant__ RegionProblem problem, BitImages images, SegmentCounts* counts) {
  const LabelCodes codes(problem.labels, 0);
  for_each_word(images, [&](std::int64_t word) {
    const WordOfWarp at(images, word);
    const int lane = threadIdx.x % kWarp;
    const std::int64_t image = word / (images.rows * images.words);
    const std::int32_t id = at.inside ? static_cast<const std::int32_t*>(problem.segments.ids.data)[at.pixel] : 0;
    const std::int64_t* const starts = problem.segments.starts + image;
    bool counted = id != 0 && is_known(id, starts), positive = false;
    if (counted) {
      const OctetBits<false> bits(problem, codes, at.pixel, 1);
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

}  // namespace

std::int64_t Engine::weigh_segments(const Inputs& inputs, const Segments& segments, std::int64_t count,
                                    double min_coverage, Tensor& weights, Tensor& thickness) {
  const Tensor& logits = inputs.logits;
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const cudaStream_t stream = current_stream(logits);
  const Tensor zeros = empty_on_device_of(logits, {count + 1, sizeof(SegmentCounts) / 8}, ScalarType::Long);
  SegmentCounts* const counts = static_cast<SegmentCounts*>(zeros.mutable_data_ptr());
  STD_CUDA_CHECK(cudaMemsetAsync(counts, 0, sizeof(SegmentCounts) * (count + 1), stream));
  if (logits.numel() > 0) {
    const BitImagesMemory memory(logits, logits.size(0), logits.size(2), logits.size(3), true);
    RegionProblem problem;
    set_inputs(problem, inputs, plan_regions(logits, Balance::kImage, 1));
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
  return 0;  // unknown ids are seen by reduce
}

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) { m.impl("thin", TORCH_BOX(&thin_op)); }

}  // namespace rarepixel::cuda
