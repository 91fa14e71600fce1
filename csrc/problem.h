// A loss's inputs as plain data, for kernels on any device: tensors and labels, and the problems made of them.
#pragma once

#include <cstdint>

#include "dtype.h"
#include "compiler.h"

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
// What stands for the class of a pixel that has none; below 0 it does not count.
inline constexpr int kNoClass = -1, kInvalidClass = -2;
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

// ---- Problems ----

// Regions are runs of `pixels` pixels. A region is cut into chunks, which depend on its size alone: sums are added in
// one order always. A chunk is worked on by one thread of the CPU, or one block of the GPU.
struct Regions {
  std::int64_t count = 0;
  std::int64_t pixels = 0;
  std::int64_t chunk_pixels = 0;  // a multiple of what an engine works on at a time
  std::int64_t chunks = 0;        // per region
  std::int64_t of_group = 1;      // how many of them share one value (region.h)

  // Words of kept bits a region has: it starts with a word of its own.
  RAREPIXEL_INLINE std::int64_t kept_words() const { return (pixels + 63) / 64; }
};

// What every pass over the pixels of regions reads.
struct RegionProblem {
  Regions regions;
  TensorView logits;
  Labels labels;                  // to map, without mask and ignore_index where `kept` tells what counts
  TensorView weights;             // of the type that the loss is computed in; for losses that weigh pixels
  Segments segments;              // for losses that weigh segments
  std::uint64_t* kept = nullptr;  // [regions, kept_words()], one bit a pixel; for losses that drop pixels
  const double* table = nullptr;  // [regions, RegionTable<Loss>::kColumns]; to reduce, for losses with found numbers
};

struct ReduceProblem : RegionProblem {
  TensorView uniform;                   // absent: the numbers of *seed
  const std::uint64_t* seed = nullptr;  // on the device: a CUDA graph may change it between replays
  double* partial_sums = nullptr;       // [regions, chunks, kNumSums + 1]
};

struct MapProblem : RegionProblem {
  TensorView upstream;  // [groups] or, one for all, [1]
  bool upstream_per_group = false;
  TensorView gradient;  // the logits' dtype
};

// A loss over a softmax: regions are images, or with one_region the batch; each class of one has a row of the table.
struct ClassProblem {
  Regions images;
  int classes = 0;
  ClassLabels label_kind = ClassLabels::kIndexMap;
  bool one_region = false;
  TensorView logits;
  Labels labels;                   // an index map with its mask [N, 1, *], others [N, C, *]
  TensorView weights;              // [N, 1, *], of the type that the loss is computed in; for losses that weigh pixels
  double* partial_sums = nullptr;  // reduce: [regions * classes, chunks of a region, kNumSums + 1]
  const double* table = nullptr;   // map: [regions * classes, RegionTable<Loss>::kColumns]
  TensorView upstream;             // [regions] or, one for all, [1]
  bool upstream_per_group = false;
  TensorView gradient;

  RAREPIXEL_INLINE std::int64_t regions() const { return one_region ? 1 : images.count; }
  RAREPIXEL_INLINE std::int64_t chunks_of_region() const { return images.chunks * (one_region ? images.count : 1); }
  RAREPIXEL_INLINE double* partial_sums_of(std::int64_t chunk, int k, int sums) const {
    const std::int64_t of_region = chunks_of_region(), row = chunk / of_region * classes + k;
    return partial_sums + (row * of_region + chunk % of_region) * sums;
  }

  // The table's rows as regions that settle together, each with so many chunks to add up.
  RAREPIXEL_INLINE Regions rows(std::int64_t chunks) const {
    Regions rows;
    rows.count = regions() * classes;
    rows.of_group = classes;
    rows.chunks = chunks;
    return rows;
  }
};

}  // namespace rarepixel
