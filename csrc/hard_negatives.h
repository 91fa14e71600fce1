// What losses share that keep the negatives from some logit on: the balance of what is kept, and the gradient.
//
//     L = w+ * sum over positives of softplus(-x)  +  w- * sum over kept negatives of softplus(x)
//     dL/dx = -w+ sigmoid(-x) on positives,  w- sigmoid(x) on negatives above the threshold,  0 on those below it
// Negatives at the threshold itself weigh less if only some of them have a place among the kept ones: they share it.
#pragma once

#include "class_balanced.h"

namespace rarepixel {

struct HardNegatives : RegionLoss {
  // kKept, the number of kept negatives, is for statistics alone.
  enum Coefficient { kPositiveWeight, kNegativeWeight, kTieWeight, kThreshold, kKept, kNumCoefficients };
  static constexpr NamedColumn kCoefficientNames[] = {{"positive_weight", kPositiveWeight},
                                                      {"negative_weight", kNegativeWeight},
                                                      {"threshold", kThreshold},
                                                      {"kept_negatives", kKept}};

  bool counts_absent = false;  // as ClassBalanced's

  RAREPIXEL_INLINE ClassWeights balance(double positives, double kept) const {
    return balanced_weights(positives, kept, counts_absent);
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, const V (&coefficients)[kNumCoefficients]) const {
    const V x = pixel.logit, threshold = coefficients[kThreshold];
    const V of_tie = select(x == threshold, coefficients[kTieWeight], coefficients[kNegativeWeight]);
    const V of_negative = select(x < threshold, V(0), of_tie);  // a NaN is above every threshold
    const V weight = select(pixel.positive, -coefficients[kPositiveWeight], of_negative);
    return weight * sigmoid(negated_margin(pixel));
  }
};

}  // namespace rarepixel
