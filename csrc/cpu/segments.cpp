// What segments are made of: skeletons and their thickness.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "../tensors.h"
#include "images.h"
#include "isa.h"
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
  const SegmentKernels kernels = segment_kernels_for_this_machine();
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

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("thin", TORCH_BOX(&thin));
  m.impl("thickness", TORCH_BOX(&thickness));
  m.impl("segment_map", TORCH_BOX(&segment_map));
}

}  // namespace rarepixel::cpu
