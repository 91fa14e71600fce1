#include "../segment_thickness.h"

#include <torch/csrc/stable/library.h>

#include <atomic>
#include <tuple>
#include <vector>

#include "images.h"
#include "launch.h"

namespace rarepixel::cpu {
namespace {

// The stage before reduce: threshold, thin and count, image by image. Returns how many ids are unknown.
std::int64_t count_segments(const Tensor& logits,  // [N, 1, H, W]
                            const Labels& labels, const Segments& segments, std::vector<SegmentCounts>& counts) {
  const Images images(logits);
  const SegmentKernels kernels = segment_kernels_for_this_machine();
  std::atomic<std::int64_t> unknown = 0;
  const auto count_some = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t image = first; image < last; ++image) {
      const BitImageMemory memory(logits, images.rows, images.columns, true);
      unknown += kernels.count({memory.image(), memory.copy(), image, view_of(logits), labels, segments,
                                counts.data() + segments.starts[image]});
    }
  };
  if (images.pixels() > 0) torch::stable::parallel_for(0, images.count, 1, count_some);
  return unknown;
}

template <class Real>
void store_compared(const std::vector<SegmentCounts>& counts, double min_coverage, Tensor& weights, Tensor& thickness) {
  Real* weight = static_cast<Real*>(weights.mutable_data_ptr());
  Real* thick = static_cast<Real*>(thickness.mutable_data_ptr());
  *weight++ = 0;
  for (const SegmentCounts& of_segment : counts) {
    const ComparedSegment compared = compare(of_segment, min_coverage);
    *weight++ = static_cast<Real>(compared.weight);
    *thick++ = static_cast<Real>(compared.annotated_thickness);
    *thick++ = static_cast<Real>(compared.predicted_thickness);
  }
}

// The last result: pixels whose id their image does not have, or if there are none, invalid labels.
std::tuple<Tensor, Tensor, Tensor, Tensor, std::int64_t> segment_thickness(
    const Tensor& logits,               // [N, 1, H, W]
    const Tensor& target,               // [N, 1, H, W]
    const std::optional<Tensor>& mask,  // [N, 1, H, W], expanded
    std::optional<std::int64_t> ignore_index, std::int64_t balance, std::int64_t reduction,
    const Tensor& ids,     // [N, H, W], int32, contiguous
    const Tensor& starts,  // [N + 1], int64, contiguous
    std::int64_t segments, const std::vector<double>& pixel_weights, double min_coverage) {
  const Labels labels = labels_of(target, mask, ignore_index);
  Tensor weights = empty_on_device_of(logits, {segments + 1}, loss_dtype(logits));
  Tensor thickness = empty_on_device_of(logits, {segments, 2}, loss_dtype(logits));
  ReduceProblem problem;
  problem.segments = segments_of(ids, starts, weights);
  std::vector<SegmentCounts> counts(segments);
  const std::int64_t unknown = count_segments(logits, labels, problem.segments, counts);
  if (loss_dtype(logits) == ScalarType::Double) store_compared<double>(counts, min_coverage, weights, thickness);
  else store_compared<float>(counts, min_coverage, weights, thickness);

  SegmentThickness loss;
  std::copy(pixel_weights.begin(), pixel_weights.end(), loss.pixel_weights);
  const Tensor table = empty_table<SegmentThickness>(logits, static_cast<Balance>(balance));
  if (unknown > 0)
    return {empty_loss<SegmentThickness>(logits, static_cast<Balance>(balance), static_cast<Reduction>(reduction)),
            table, weights, thickness, unknown};
  const Forward out =
      forward(loss, logits, labels, static_cast<Balance>(balance), static_cast<Reduction>(reduction), problem);
  return {out.loss, out.table, weights, thickness, out.invalid};
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

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("segment_thickness_cpu", TORCH_BOX(&segment_thickness));
  m.impl("segment_thickness_backward", TORCH_BOX(&segment_thickness_backward));
}

}  // namespace rarepixel::cpu
