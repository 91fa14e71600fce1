// What every loss over regions of pixels shares: the pixel a loss sees, and how sums become values and gradients.
//
// A loss (random_drop.h is the model) is a struct with
//   kNumSums, kNumCoefficients    how many sums reduce makes and how many coefficients map needs
//   kDropsPixels                  whether it decides at random which pixels count
//   accumulate(pixel, sums)       reduce: adds a pixel (or many lanes of pixels) to the sums if pixel.counts says so; a
//                                 loss that drops pixels takes (pixel, uniform, sums) and returns which it kept
//   settle(sums)                  settle: the region's loss, its weight and the coefficients
//   gradient(pixel, coefficients) map: d(loss of the region) / d(logit of this pixel)
// The engine sets the gradient to 0 where a pixel does not count, and applies reduction and upstream gradient.
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

// How wrong a logit is: -x on positives, x on negatives. softplus of it is the cross-entropy, +-sigmoid of it its
// slope.
template <class V>
RAREPIXEL_INLINE V negated_margin(const Pixel<V>& pixel) {
  return select(pixel.positive, -pixel.logit, pixel.logit);
}

template <int kNumCoefficients>
struct Settled {
  double loss;    // sum over pixels of weight * pixel loss, the papers' value
  double weight;  // sum over pixels of weight; reduction="mean" divides by it
  double coefficients[kNumCoefficients];
};

enum class Reduction : int { kNone = 0, kMean = 1, kSum = 2 };

// One row per region of the table that forward hands to backward:
//   [sums ..., invalid labels, coefficients ..., scale of the gradient]
template <class Loss>
struct RegionTable {
  static constexpr int kInvalid = Loss::kNumSums;
  static constexpr int kCoefficients = kInvalid + 1;
  static constexpr int kScale = kCoefficients + Loss::kNumCoefficients;
  static constexpr int kColumns = kScale + 1;
};

// From a row with its sums to the full row; returns the region's value before the mean over regions.
//
// A region whose weights sum to 0 is worth 0, unless a NaN logit made its loss NaN. Invalid labels make value and
// gradient NaN: the GPU cannot look without a synchronisation (the CPU's caller raises).
template <class Loss>
RAREPIXEL_INLINE double settle_region(const Loss& loss, double* row, Reduction reduction, std::int64_t regions) {
  using Table = RegionTable<Loss>;
  const Settled<Loss::kNumCoefficients> settled = loss.settle(row);
  for (int i = 0; i < Loss::kNumCoefficients; ++i) row[Table::kCoefficients + i] = settled.coefficients[i];
  double value = settled.loss;
  double scale = 1;
  if (reduction != Reduction::kSum && settled.weight > 0) {
    value /= settled.weight;
    scale /= settled.weight;
  }
  if (reduction == Reduction::kMean) scale /= static_cast<double>(regions);
  if (row[Table::kInvalid] > 0) value = scale = __builtin_nan("");
  row[Table::kScale] = scale;
  return value;
}

}  // namespace rarepixel
