// What class-balanced losses share: their sums, how they settle, and the weights of their gradient.
//
//     L = w+ * sum over positives of l  +  w- * sum over kept negatives of l
//     w+ = N- / (N+ + N-)    w- = N+ / (N+ + N-)
// with N+ positives and N- kept negatives: a class weighs the share of the other one, so that both pull alike. The
// weights are constants to the gradient, so dL/dx = w * dl/dx. Without any pixel both weights are 0, and so they are without
// positives, unless the negatives of such a region are to count, plainly: then w- = 1.
//
// A loss derives from ClassBalanced and brings its pixel loss l, that loss's slope, and which negatives it keeps.
#pragma once

#include "region.h"

namespace rarepixel {

struct ClassWeights {
  double positive, negative;
};

// Of so many positives and kept negatives.
RAREPIXEL_INLINE ClassWeights balanced_weights(double positives, double kept_negatives, bool counts_absent) {
  const double pixels = positives + kept_negatives;
  if (!(pixels > 0)) return {0, 0};
  return {kept_negatives / pixels, counts_absent && positives == 0 ? 1 : positives / pixels};
}

struct ClassBalanced : RegionLoss {
  enum Sum { kPositives, kNegatives, kPositiveLoss, kNegativeLoss, kNumSums };
  enum Coefficient { kPositiveWeight, kNegativeWeight, kNumCoefficients };
  static constexpr NamedColumn kSumNames[] = {{"positives", kPositives},
                                              {"kept_negatives", kNegatives},
                                              {"positive_loss", kPositiveLoss},
                                              {"negative_loss", kNegativeLoss}};
  static constexpr NamedColumn kCoefficientNames[] = {{"positive_weight", kPositiveWeight},
                                                      {"negative_weight", kNegativeWeight}};

  bool counts_absent = false;  // the negatives of regions without positives

  // Adds the pixels that are kept, with their loss.
  template <class V>
  RAREPIXEL_INLINE static void add(const Pixel<V>& pixel, MaskOf<V> kept, V loss, V (&sums)[kNumSums]) {
    const MaskOf<V> positive = kept & pixel.positive;
    const MaskOf<V> negative = kept & !pixel.positive;
    sums[kPositives] = add_where(positive, sums[kPositives], V(1));
    sums[kNegatives] = add_where(negative, sums[kNegatives], V(1));
    sums[kPositiveLoss] = add_where(positive, sums[kPositiveLoss], loss);
    sums[kNegativeLoss] = add_where(negative, sums[kNegativeLoss], loss);
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums) const {
    const auto [positive, negative] = balanced_weights(sums[kPositives], sums[kNegatives], counts_absent);
    return {weighted_sum(positive, sums[kPositiveLoss]) + weighted_sum(negative, sums[kNegativeLoss]),
            positive * sums[kPositives] + negative * sums[kNegatives],
            {positive, negative}};
  }

  // The same with coefficients of the derived loss behind the two weights.
  template <int kFurther>
  RAREPIXEL_INLINE static Settled<kNumCoefficients + kFurther> with_further(const Settled<kNumCoefficients>& settled,
                                                                            const double (&further)[kFurther]) {
    Settled<kNumCoefficients + kFurther> all{settled.loss, settled.weight, {}};
    for (int i = 0; i < kNumCoefficients; ++i) all.coefficients[i] = settled.coefficients[i];
    for (int i = 0; i < kFurther; ++i) all.coefficients[kNumCoefficients + i] = further[i];
    return all;
  }

  // d(L)/d(logit) of a pixel from the slope of its loss over negated_margin(): w- on negatives, -w+ on positives.
  template <class V, int kCount>
  RAREPIXEL_INLINE static V weighted(const Pixel<V>& pixel, V slope, const V (&coefficients)[kCount]) {
    return select(pixel.positive, -coefficients[kPositiveWeight], coefficients[kNegativeWeight]) * slope;
  }
};

}  // namespace rarepixel
