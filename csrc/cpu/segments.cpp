// What segments are made of, skeletons and their thickness, and how a prediction compares with them.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <tuple>
#include <vector>

#include "../losses/segment_thickness.h"
#include "images.h"
#include "launch.h"
#include "segment_map.h"

namespace rarepixel::cpu {
namespace {

Tensor empty_with_shape_of(const Tensor& images, ScalarType dtype) {
  const auto sizes = images.sizes();
  return empty_on_device_of(images, {sizes.begin(), sizes.end()}, dtype);
}

Tensor thin(const Tensor& mask) {  // [*, H, W], bool or uint8, contiguous
  const Images images(mask);
  Tensor skeleton = empty_with_shape_of(mask, ScalarType::Bool);
  const auto* from = static_cast<const std::uint8_t*>(mask.const_data_ptr());
  auto* to = static_cast<std::uint8_t*>(skeleton.mutable_data_ptr());
  const SegmentKernels kernels = kernels_for_this_machine<SegmentKernels>();
  const auto thin_some = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t image = first; image < last; ++image) {
      const BitImageMemory memory(mask, images.rows, images.columns, false);
      kernels.thin({memory.image(), from + image * images.pixels(), to + image * images.pixels()});
    }
  };
  if (images.pixels() > 0) torch::stable::parallel_for(0, images.count, 1, thin_some);
  return skeleton;
}

// Offsets of the window around a pixel, the nearest first.
struct Offset {
  int row, column;
  float distance;
};

std::vector<Offset> window(int reach) {
  std::vector<Offset> offsets;
  for (int row = -reach; row <= reach; ++row) {
    for (int column = -reach; column <= reach; ++column) {
      offsets.push_back({row, column, std::sqrt(static_cast<float>(row * row + column * column))});
    }
  }
  std::stable_sort(offsets.begin(), offsets.end(),
                   [](const Offset& a, const Offset& b) { return a.distance < b.distance; });
  return offsets;
}

Tensor thickness(const Tensor& mask,      // [*, H, W], bool or uint8, contiguous
                 const Tensor& skeleton,  // the same shape and layout
                 std::int64_t reach, double beyond) {
  const Images images(mask);
  Tensor distances = empty_with_shape_of(mask, ScalarType::Float);
  const auto* set = static_cast<const std::uint8_t*>(mask.const_data_ptr());
  const auto* on_skeleton = static_cast<const std::uint8_t*>(skeleton.const_data_ptr());
  float* to = static_cast<float*>(distances.mutable_data_ptr());
  const std::vector<Offset> offsets = window(static_cast<int>(reach));
  const auto measure = [&](std::int64_t row, std::int64_t column, const std::uint8_t* image) {
    for (const Offset& offset : offsets) {
      const std::int64_t r = row + offset.row, c = column + offset.column;
      const bool inside = r >= 0 && r < images.rows && c >= 0 && c < images.columns;
      if (inside && image[r * images.columns + c] == 0) return offset.distance;
    }
    return static_cast<float>(beyond);
  };
  const auto measure_rows = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t line = first; line < last; ++line) {
      const std::uint8_t* image = set + line / images.rows * images.pixels();
      for (std::int64_t column = 0; column < images.columns; ++column) {
        const std::int64_t pixel = line * images.columns + column;
        to[pixel] = on_skeleton[pixel] != 0 ? measure(line % images.rows, column, image) : 0.0f;
      }
    }
  };
  if (images.pixels() > 0) torch::stable::parallel_for(0, images.count * images.rows, 64, measure_rows);
  return distances;
}

// Of one image: ids [H, W], and the segments' pixels one after the other with where each segment begins.
std::tuple<Tensor, Tensor, Tensor, bool> segment_map(const Tensor& skeleton,       // [H, W], bool, contiguous
                                                     const Tensor& thickness,      // [H, W], float32, contiguous
                                                     const Tensor& field_of_view,  // [H, W], bool or uint8, contiguous
                                                     std::int64_t min_length, std::int64_t max_length, double margin,
                                                     bool original) {
  const Images image(skeleton);
  Tensor ids = empty_with_shape_of(skeleton, ScalarType::Int);
  SegmentMapper mapper(image.rows, image.columns, {min_length, max_length, margin, original});
  const bool complete = mapper.map(static_cast<const std::uint8_t*>(skeleton.const_data_ptr()),
                                   static_cast<const float*>(thickness.const_data_ptr()),
                                   static_cast<const std::uint8_t*>(field_of_view.const_data_ptr()),
                                   static_cast<std::int32_t*>(ids.mutable_data_ptr()));
  const auto& segments = mapper.segments();
  std::int64_t total = 0;
  for (const auto& segment : segments) total += std::ssize(segment);
  Tensor pixels = empty_on_device_of(skeleton, {total}, ScalarType::Long);
  Tensor offsets = empty_on_device_of(skeleton, {std::ssize(segments) + 1}, ScalarType::Long);
  auto* to = static_cast<std::int64_t*>(pixels.mutable_data_ptr());
  auto* offset = static_cast<std::int64_t*>(offsets.mutable_data_ptr());
  *offset = 0;
  for (const auto& segment : segments) {
    to = std::copy(segment.begin(), segment.end(), to);
    offset[1] = offset[0] + std::ssize(segment);
    ++offset;
  }
  return {ids, pixels, offsets, complete};
}

// Thresholds, thins and counts, image by image. Returns how many ids are unknown.
std::int64_t count_segments(const Inputs& inputs, const Segments& segments, std::vector<SegmentCounts>& counts) {
  const Images images(inputs.logits);
  const SegmentKernels kernels = kernels_for_this_machine<SegmentKernels>();
  std::atomic<std::int64_t> unknown = 0;
  const auto count_some = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t image = first; image < last; ++image) {
      const BitImageMemory memory(inputs.logits, images.rows, images.columns, true);
      unknown += kernels.count({memory.image(), memory.copy(), image, view_of(inputs.logits), inputs.labels, segments,
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

}  // namespace

// Unknown ids end it: there is no segment whose weight their pixels would have.
std::int64_t Engine::weigh_segments(const Inputs& inputs, const Segments& segments, std::int64_t count,
                                    double min_coverage, Tensor& weights, Tensor& thickness) {
  std::vector<SegmentCounts> counts(count);
  const std::int64_t unknown = count_segments(inputs, segments, counts);
  if (loss_dtype(inputs.logits) == ScalarType::Double) store_compared<double>(counts, min_coverage, weights, thickness);
  else store_compared<float>(counts, min_coverage, weights, thickness);
  return unknown;
}

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("thin", TORCH_BOX(&thin));
  m.impl("thickness", TORCH_BOX(&thickness));
  m.impl("segment_map", TORCH_BOX(&segment_map));
}

}  // namespace rarepixel::cpu
