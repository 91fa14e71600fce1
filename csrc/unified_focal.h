// The Unified Focal family (Yeung et al., Computerized Medical Imaging and Graphics 2022): every loss that is made of a
// Tversky index of each class and of focal cross-entropies.
//
// Two classes, background 0 and foreground 1, with p = sigmoid(x). How wrong a pixel is: w = sigmoid(z), z = -x on
// positives and x on negatives. Of N+ positives and N- negatives
//     FN = sum over positives of w,  TP = N+ - FN,  FP = sum over negatives of w,  TN = N- - FP
// Foreground has (TP, FN, FP), background (TN, FP, FN). With u = 1 - T the complement of a class's Tversky index,
//     u = (a FN + b FP) / (TP + a FN + b FP + smooth)
//     L = sum over classes of r u^e  +  sum over classes of c / (N+ + N-) sum over its pixels of w^g softplus(z)  + k
//
//     dL/dz = A w (1 - w) + c / (N+ + N-) w^g (g (1 - w) softplus(z) + w),    A = d(sum of r u^e) / d(wrong of the
//     class)
// and dL/dx is -dL/dz on positives. Generalized Dice has in place of the first sum, with v = 1 / N^2 of each class,
//     (v+ + v-) (FN + FP) / (v+ (2 TP + FN + FP) + v- (2 TN + FN + FP) + smooth)
// w^g is exp(-g softplus(-z)): no power of a number near 0, no slope that is infinite.
#pragma once

#include "region.h"

namespace rarepixel {

// One class's part: r, e, a and b of its Tversky index, c and g of its cross-entropy.
struct ClassTerms {
  double region_weight = 0, region_exponent = 1;
  double false_negative_weight = 0.5, false_positive_weight = 0.5;
  double focal_weight = 0, focal_exponent = 0;
};

// Which cross-entropies a loss has: none, plain ones (every exponent is 0), or focal ones. What it has not is not
// computed.
enum class PixelTerms : int { kNone = 0, kPlain = 1, kFocal = 2 };

template <PixelTerms kPixelTerms>
struct UnifiedFocal : RegionLoss {
  enum Sum { kPositives, kNegatives, kFalseNegatives, kFalsePositives, kPositiveFocal, kNegativeFocal, kNumSums };
  // Of positives, then of negatives: A, c / (N+ + N-) and g.
  enum Coefficient { kOverlap, kFocal, kExponent, kNegative, kNumCoefficients = 2 * kNegative };

  static constexpr double kSmooth = 1e-7;

  ClassTerms foreground, background;
  double constant = 0;
  bool generalized = false;  // the classes' overlaps in one quotient, each weighing 1 / pixels^2 (Sudre et al., 2017)

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V (&sums)[kNumSums]) const {
    const Wrong<V> wrong(negated_margin(pixel));
    const MaskOf<V> positive = pixel.counts & pixel.positive, negative = pixel.counts & !pixel.positive;
    sums[kPositives] = add_where(positive, sums[kPositives], V(1));
    sums[kNegatives] = add_where(negative, sums[kNegatives], V(1));
    sums[kFalseNegatives] = add_where(positive, sums[kFalseNegatives], wrong.probability);
    sums[kFalsePositives] = add_where(negative, sums[kFalsePositives], wrong.probability);
    if constexpr (kPixelTerms != PixelTerms::kNone) {
      using T = ScalarOf<V>;
      const V exponent = select(pixel.positive, V(static_cast<T>(foreground.focal_exponent)),
                                V(static_cast<T>(background.focal_exponent)));
      const V focal = to_the(exponent, wrong) * wrong.cross_entropy;
      sums[kPositiveFocal] = add_where(positive, sums[kPositiveFocal], focal);
      sums[kNegativeFocal] = add_where(negative, sums[kNegativeFocal], focal);
    }
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums) const {
    const double pixels = sums[kPositives] + sums[kNegatives];
    if (pixels == 0) return {0, 1, {}};
    const Overlap overlap = generalized ? generalized_dice(sums) : tversky(sums);
    const double positive_focal = foreground.focal_weight / pixels, negative_focal = background.focal_weight / pixels;
    return {overlap.value + weighted_sum(positive_focal, sums[kPositiveFocal]) +
                weighted_sum(negative_focal, sums[kNegativeFocal]) + constant,
            1,
            {overlap.by_false_negative, positive_focal, foreground.focal_exponent, overlap.by_false_positive,
             negative_focal, background.focal_exponent}};
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, const V (&coefficients)[kNumCoefficients]) const {
    const auto of_class = [&](int which) __attribute__((always_inline)) {
      return select(pixel.positive, coefficients[which], coefficients[kNegative + which]);
    };
    const Wrong<V> wrong(negated_margin(pixel));
    V slope = of_class(kOverlap) * (wrong.probability * wrong.complement);
    if constexpr (kPixelTerms == PixelTerms::kPlain) slope = slope + of_class(kFocal) * wrong.probability;
    if constexpr (kPixelTerms == PixelTerms::kFocal) {
      const V exponent = of_class(kExponent);
      const V of_focal = exponent * wrong.complement * wrong.cross_entropy + wrong.probability;
      slope = slope + of_class(kFocal) * (to_the(exponent, wrong) * of_focal);
    }
    return select(pixel.positive, -slope, slope);
  }

 private:
  // w = sigmoid(z), 1 - w, softplus(z) and softplus(-z) = -log w, from one exponential.
  template <class V>
  struct Wrong {
    V probability, complement, cross_entropy, minus_log;

    RAREPIXEL_INLINE explicit Wrong(V z) {
      const V e = exp_negative(absolute(z));
      const V r = reciprocal_of_one_plus(e), l = log1p_unit(e);
      const MaskOf<V> right = z < V(0);
      probability = select(right, e, V(1)) * r;
      complement = select(right, V(1), e) * r;
      cross_entropy = l + at_least(V(0), z);
      minus_log = l + at_least(V(0), -z);
    }
  };

  // w^exponent
  template <class V>
  RAREPIXEL_INLINE static V to_the(V exponent, const Wrong<V>& wrong) {
    if constexpr (kPixelTerms == PixelTerms::kPlain) return V(1);
    else return exp_negative(exponent * wrong.minus_log);
  }

  // The region part and its derivatives: one more missed is one less found.
  struct Overlap {
    double value = 0, by_false_negative = 0, by_false_positive = 0;
  };

  RAREPIXEL_INLINE Overlap tversky(const double* sums) const {
    const double fn = sums[kFalseNegatives], fp = sums[kFalsePositives];
    const Overlap one = complement(sums[kPositives] - fn, fn, fp, foreground);
    const Overlap other = complement(sums[kNegatives] - fp, fp, fn, background);
    return {one.value + other.value, one.by_false_negative + other.by_false_positive,
            one.by_false_positive + other.by_false_negative};
  }

  // r u^e of a class by its own false negatives and false positives.
  RAREPIXEL_INLINE static Overlap complement(double tp, double fn, double fp, const ClassTerms& terms) {
    const double missed = terms.false_negative_weight * fn + terms.false_positive_weight * fp;
    const double all = tp + missed + kSmooth;
    const double u = missed / all;
    if (terms.region_weight == 0 || u == 0) return {};  // where u is 0 its slope is taken to be 0
    const double value = terms.region_weight * power(u, terms.region_exponent);
    const double slope = terms.region_exponent * value / u / (all * all);
    return {value, slope * (terms.false_negative_weight * (tp + kSmooth) + missed),
            slope * terms.false_positive_weight * (tp + kSmooth)};
  }

  // A class that the region does not have weighs 0.
  RAREPIXEL_INLINE Overlap generalized_dice(const double* sums) const {
    const double positives = sums[kPositives], negatives = sums[kNegatives];
    const double fn = sums[kFalseNegatives], fp = sums[kFalsePositives];
    const double of_positives = positives > 0 ? 1 / (positives * positives) : 0;
    const double of_negatives = negatives > 0 ? 1 / (negatives * negatives) : 0;
    const double both = of_positives + of_negatives, wrong = both * (fn + fp), r = foreground.region_weight;
    const double all =
        of_positives * 2 * (positives - fn) + of_negatives * 2 * (negatives - fp) + wrong + kSmooth * both;
    const double difference = of_negatives - of_positives;  // d(all) / d(FN), and minus that by FP
    return {r * wrong / all, r * (both * all - wrong * difference) / (all * all),
            r * (both * all + wrong * difference) / (all * all)};
  }
};

}  // namespace rarepixel
