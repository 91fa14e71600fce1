// random_drop.h once more: one pixel after the other, in double, straight from the formulas.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "losses/random_drop.h"

namespace rarepixel::test {

inline double naive_softplus(double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
inline double naive_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The probability with which a negative is dropped.
inline double naive_drop_probability(double logit, DropSchedule schedule) {
  const double negative = naive_sigmoid(-logit);
  switch (schedule) {
    case DropSchedule::kLinear: return negative;
    case DropSchedule::kSquare: return negative * negative;
    default: return 1 - naive_softplus(logit) / std::numbers::ln10;
  }
}

struct NaivePixel {
  double logit, uniform;
  bool positive, counts;
};

struct NaiveSums {
  double positives = 0, negatives = 0, positive_loss = 0, negative_loss = 0;

  void add(const NaivePixel& pixel) {
    (pixel.positive ? positives : negatives) += 1;
    // A NaN logit must be seen; fmax would swallow it.
    const double loss =
        std::isnan(pixel.logit) ? pixel.logit : naive_softplus(pixel.positive ? -pixel.logit : pixel.logit);
    (pixel.positive ? positive_loss : negative_loss) += loss;
  }
};

struct NaiveRegion {
  double value;
  double positive_slope, negative_slope;  // what sigmoid is multiplied by

  NaiveRegion(const NaiveSums& sums, Reduction reduction, std::int64_t regions) {
    const double all = sums.positives + sums.negatives;
    const double positive_weight = all == 0 ? 0 : sums.negatives / all;
    const double negative_weight = all == 0 ? 0 : sums.positives / all;
    const double weight = positive_weight * sums.positives + negative_weight * sums.negatives;
    double scale = 1;
    if (reduction != Reduction::kSum && weight > 0) scale = 1 / weight;
    value = (positive_weight * sums.positive_loss + negative_weight * sums.negative_loss) * scale;
    if (reduction == Reduction::kMean) scale /= static_cast<double>(regions);
    positive_slope = positive_weight * scale;
    negative_slope = negative_weight * scale;
  }

  double gradient(const NaivePixel& pixel) const {
    return pixel.positive ? positive_slope * -naive_sigmoid(-pixel.logit) : negative_slope * naive_sigmoid(pixel.logit);
  }
};

}  // namespace rarepixel::test
