// A loss's inputs as plain data, for kernels on any device.
#pragma once

#include <cstdint>

#include "dtype.h"
#include "target.h"

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
  TensorView target;  // 0, 1 or ignore_index; of an index map: 0 ... channels or ignore_index
  TensorView mask;    // one byte a pixel, 0: does not count
  bool has_ignore_index = false;
  std::int64_t ignore_index = 0;
  // Of an index map (regions are then channels, and all channels of an image see the same target): how many there are.
  // Channel c is positive where the label is c + 1, and negative elsewhere.
  std::int64_t channels = 0;
  bool any_index = false;  // labels beyond the channels are negatives, too, instead of invalid
};

// How the labels of one region read.
struct LabelRule {
  std::int64_t positive = 1;  // the label of its positives
  // A label is a negative if it is one of 0 ... largest_negative; if that is below 0, if it is anything else. An index
  // map is checked for other labels in its first channel alone: once an image.
  std::int64_t largest_negative = 0;
};

RAREPIXEL_INLINE LabelRule rule_of(const Labels& labels, std::int64_t region) {
  if (labels.channels == 0) return {};
  const std::int64_t channel = region % labels.channels;
  return {channel + 1, channel == 0 && !labels.any_index ? labels.channels : -1};
}

// How the labels of a loss over a softmax say which class is true.
enum class ClassLabels : int { kIndexMap = 0, kOneHot = 1, kSoft = 2 };

inline constexpr int kMaxClasses = 254;
inline constexpr double kSoftLabelTolerance = 0.01;  // how far a pixel's soft labels may sum from 1: half types round

// In the range of which segment each pixel of a batch lies, and what segments weigh. Images are the regions.
struct Segments {
  TensorView ids;  // int32, contiguous: -i on the skeleton of the image's segment i, i on the rest of its range, else 0
  const std::int64_t* starts = nullptr;  // [images + 1]: image n has segments starts[n] ... starts[n + 1] - 1
  const void* weights = nullptr;         // [1 + segments], float or double as the loss is computed in; first a 0
};

RAREPIXEL_INLINE std::uint32_t magnitude(std::int32_t id) {
  return id < 0 ? 0u - static_cast<std::uint32_t>(id) : static_cast<std::uint32_t>(id);
}

// Whether an image has a segment of this id, or the id is 0; `starts` are those of the image.
RAREPIXEL_INLINE bool is_known(std::int32_t id, const std::int64_t* starts) {
  return static_cast<std::int64_t>(magnitude(id)) <= starts[1] - starts[0];
}

// What is balanced by itself: each image and channel, each image, or the whole batch. In (N, C, *spatial) order every
// region is a run of pixels.
enum class Balance : int { kChannel = 0, kImage = 1, kBatch = 2 };

}  // namespace rarepixel
