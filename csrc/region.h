// What every loss over regions of pixels shares: the pixel a loss sees, and how sums become values and gradients.
//
// A loss (losses/random_drop.h is the model) derives from RegionLoss and has
//   kNumSums, kNumCoefficients    how many sums reduce makes and how many coefficients map needs
//   accumulate(pixel, sums)       reduce: adds a pixel (or many lanes of pixels) to the sums if pixel.counts says so
//   settle(sums)                  settle: the region's loss, its weight and the coefficients
//   gradient(pixel, coefficients) map: d(loss of the region) / d(logit of this pixel)
//   kSumNames, kCoefficientNames  what of them statistics read, by the names of their fields (pyext/rarepixel/stats.py)
// A few losses need more, and say so by overriding one of RegionLoss's constants:
//   kIndexMap       labels are a map of indices, one for all channels: channel c is positive where the label is c + 1;
//                   takes_any_index() says whether labels beyond the channels are negatives, too, not invalid
//   kSoftLabels     labels are numbers from 0 to 1: accumulate(pixel, label, sums), gradient(pixel, label,
//                   coefficients); pixel.positive says nothing
//   kDropsPixels    it decides at random which pixels count: accumulate(pixel, uniform, sums) returns which it kept
//   kNumFound       a stage before reduce (threshold.h) found so many numbers for the region: accumulate(pixel, found,
//                   sums), settle(sums, found)
//   kWeighsSegments a stage before reduce compared segments: accumulate(pixel, of_segment, sums) and
//                   gradient(pixel, of_segment, coefficients) get the weight of the segment that the pixel is in the
//                   range of, or 0
//   kNumPooled      the channels of an image settle together: pool(sums, channel, pooled) adds one to so many numbers,
//                   settle(sums, pooled, channel) sees those of the image; value and weight are the image's
//   kKnowsChannel   settle(sums, region) also gets the number of the region, for what differs from channel to channel
//   kSeesClasses    it sees a pixel with the logits of all its classes: an engine of its own runs it and asks for what
//                   losses/softmax_unified_focal.h has
// The engine sets the gradient to 0 where a pixel does not count, and applies reduction and upstream gradient. It also
// runs Weighted<Loss>, where pixels have weights; all of a loss's sums are sums over pixels, so it need not know.
// class_balanced.h has sums and settle() for the usual weights. The engines know nothing else of a loss, and a loss
// knows nothing of threads, types or memory.
#pragma once

#include <cstdint>

#include "math.h"

namespace rarepixel {

template <class V>
struct Pixel {
  V logit;
  MaskOf<V> positive;  // its label is 1
  MaskOf<V> counts;    // it is neither masked out nor ignored (nor dropped, once that is decided)
};

// How wrong a logit is: -x on positives, x on negatives.
// softplus of it is the cross-entropy, +-sigmoid of it its slope.
template <class V>
RAREPIXEL_INLINE V negated_margin(const Pixel<V>& pixel) {
  return select(pixel.positive, -pixel.logit, pixel.logit);
}

// A sum or a coefficient that Python reads by name, from the table of regions.
struct NamedColumn {
  const char* name;
  int index;
};

struct RegionLoss {
  static constexpr NamedColumn kSumNames[] = {{nullptr, 0}};
  static constexpr NamedColumn kCoefficientNames[] = {{nullptr, 0}};
  static constexpr bool kIndexMap = false;
  static constexpr bool kSoftLabels = false;
  static constexpr bool kDropsPixels = false;
  static constexpr int kNumFound = 0;
  static constexpr bool kWeighsSegments = false;
  static constexpr int kNumPooled = 0;
  static constexpr bool kKnowsChannel = false;
  static constexpr bool kSeesClasses = false;
  static constexpr bool kWeighsPixels = false;
};

// A loss whose pixels have weights: one of weight w counts as w pixels, in every sum and in the gradient. One of weight 0
// does not count. A loss that keeps numbers of pixels elsewhere than in its sums has a specialisation (losses/top_k.h).
template <class Loss>
struct Weighted : Loss {
  using Unweighted = Loss;
  static constexpr bool kWeighsPixels = true;
};

// Whether a loss sees a number of each pixel besides its logit.
template <class Loss>
inline constexpr bool kHasNumber = Loss::kWeighsSegments || Loss::kSoftLabels;

template <int kNumCoefficients>
struct Settled {
  double loss;    // sum over pixels of weight * pixel loss, the papers' value
  double weight;  // sum over pixels of weight; reduction="mean" divides by it
  double coefficients[kNumCoefficients];
};

enum class Reduction : int { kNone = 0, kMean = 1, kSum = 2 };

// weight * sum, but 0 where nothing weighs: also if the sum overflowed. A NaN among the pixels is seen always.
RAREPIXEL_INLINE double weighted_sum(double weight, double sum) {
  return weight != 0 || sum != sum ? weight * sum : 0.0;
}

// One row per region of the table that forward hands to backward:
//   [sums ..., invalid labels, found ..., coefficients ..., scale of the gradient]
template <class Loss>
struct RegionTable {
  static constexpr int kInvalid = Loss::kNumSums;
  static constexpr int kFound = kInvalid + 1;
  static constexpr int kCoefficients = kFound + Loss::kNumFound;
  static constexpr int kScale = kCoefficients + Loss::kNumCoefficients;
  static constexpr int kColumns = kScale + 1;
};

// A group is the regions that share one value: one region, or the channels of an image for a loss that pools them.
// What its rows add up to:
struct GroupSums {
  double value = 0, weight = 0, invalid = 0;
};

// From a row with its sums to the full row but for the scale, and on to the sums of its group, whose `place`th it is. Of
// all rows it is that of number `region`.
template <class Loss>
RAREPIXEL_INLINE void settle_row(const Loss& loss, double* row, [[maybe_unused]] const double* pooled,
                                 [[maybe_unused]] std::int64_t place, [[maybe_unused]] std::int64_t region,
                                 GroupSums& group) {
  using Table = RegionTable<Loss>;
  Settled<Loss::kNumCoefficients> settled;
  if constexpr (Loss::kNumPooled > 0) settled = loss.settle(row, pooled, place);
  else if constexpr (Loss::kNumFound > 0) settled = loss.settle(row, row + Table::kFound);
  else if constexpr (Loss::kKnowsChannel) settled = loss.settle(row, region);
  else settled = loss.settle(row);
  for (int i = 0; i < Loss::kNumCoefficients; ++i) row[Table::kCoefficients + i] = settled.coefficients[i];
  group.value += settled.loss;
  group.weight += settled.weight;
  group.invalid += row[Table::kInvalid];
}

// A group's value before the mean over groups, and the scale of its gradient.
//
// A group whose weights sum to 0 is worth 0, unless a NaN logit made its loss NaN. Invalid labels make value and
// gradient NaN: the GPU cannot look without a synchronisation (the CPU's caller raises).
struct GroupValue {
  double value, scale = 1;

  RAREPIXEL_INLINE GroupValue(const GroupSums& group, Reduction reduction, std::int64_t groups) : value(group.value) {
    if (reduction != Reduction::kSum && group.weight > 0) {
      value /= group.weight;
      scale /= group.weight;
    }
    if (reduction == Reduction::kMean) scale /= static_cast<double>(groups);
    if (group.invalid > 0) value = scale = __builtin_nan("");
  }
};

// From a group's rows with their sums to the full rows; returns the group's value before the mean over groups. The first
// of the rows is that of region `first`.
template <class Loss>
RAREPIXEL_INLINE double settle_group(const Loss& loss, double* rows, std::int64_t regions_of_group, Reduction reduction,
                                     std::int64_t groups, std::int64_t first = 0) {
  constexpr int kColumns = RegionTable<Loss>::kColumns;
  double pooled[Loss::kNumPooled + 1] = {};
  if constexpr (Loss::kNumPooled > 0) {
    for (std::int64_t r = 0; r < regions_of_group; ++r) loss.pool(rows + r * kColumns, r, pooled);
  }
  GroupSums sums;
  for (std::int64_t r = 0; r < regions_of_group; ++r) settle_row(loss, rows + r * kColumns, pooled, r, first + r, sums);
  const GroupValue group(sums, reduction, groups);
  for (std::int64_t r = 0; r < regions_of_group; ++r) rows[r * kColumns + RegionTable<Loss>::kScale] = group.scale;
  return group.value;
}

}  // namespace rarepixel
