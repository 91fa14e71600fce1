// A loss's inputs as plain data, for kernels on any device.
#pragma once

#include <cstdint>

#include "dtype.h"

namespace rarepixel {

inline constexpr int kMaxRank = 5;  // (N, C, D, H, W)

// A tensor read in contiguous (N, C, *spatial) order, whatever its strides; neighbouring dimensions that lie as one are
// merged, so a contiguous tensor has rank 1.
struct TensorView {
  void* data = nullptr;  // null: an absent mask or absent random numbers
  DType dtype = DType::kFloat32;
  int rank = 0;
  std::int64_t size[kMaxRank] = {};
  std::int64_t stride[kMaxRank] = {};  // in elements
};

struct Labels {
  TensorView target;  // 0, 1 or ignore_index
  TensorView mask;    // one byte a pixel, 0: does not count
  bool has_ignore_index = false;
  std::int64_t ignore_index = 0;
};

// What is balanced by itself: each image and channel, each image, or the whole batch. In (N, C, *spatial) order every
// region is a run of pixels.
enum class Balance : int { kChannel = 0, kImage = 1, kBatch = 2 };

}  // namespace rarepixel
