// From torch tensors to components.h, for both engines.
#pragma once

#include "components.h"
#include "tensors.h"

namespace rarepixel {

inline Extent extent_of(const Tensor& mask) {  // [N, C, *], two or three spatial dimensions
  const std::int64_t last = mask.dim() - 1;
  const Extent extent{last == 4 ? mask.size(2) : 1, mask.size(last - 1), mask.size(last)};
  STD_TORCH_CHECK(extent.pixels() <= 0x7fffffff, "mask: expected at most 2147483647 pixels an image, got ",
                  extent.pixels());
  return extent;
}

// What the operator returns.
struct ComponentsResult {
  mutable Tensor labels;  // [N, C, *], int32
  mutable Tensor count;   // [N, C], int64

  explicit ComponentsResult(const Tensor& mask)
      : labels(empty_on_device_of(mask, {mask.sizes().begin(), mask.sizes().end()}, ScalarType::Int)),
        count(empty_on_device_of(mask, {mask.size(0), mask.size(1)}, ScalarType::Long)) {}

  std::int64_t images() const { return count.numel(); }
  std::int32_t* labels_of(std::int64_t image, const Extent& extent) const {
    return static_cast<std::int32_t*>(labels.mutable_data_ptr()) + image * extent.pixels();
  }
  std::int64_t* counts() const { return static_cast<std::int64_t*>(count.mutable_data_ptr()); }
};

}  // namespace rarepixel
