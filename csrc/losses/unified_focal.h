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
//     dL/dz = A w (1 - w) + c / (N+ + N-) w^g (g (1 - w) softplus(z) + w)
//     A = d(sum of r u^e) / d(FN of the class)
// and dL/dx is -dL/dz on positives. Generalized Dice has a quotient of its own in place of the first sum.
// A pixel of soft label y is y of a positive and 1 - y of a negative.
#pragma once

#include "../unified_focal_terms.h"

namespace rarepixel {

// Which cross-entropies a loss has: none, plain ones (every exponent is 0), or focal ones. No others are computed.
enum class PixelTerms : int { kNone = 0, kPlain = 1, kFocal = 2 };

template <PixelTerms kPixelTerms>
struct UnifiedFocal : RegionLoss {
  enum Sum { kPositives, kNegatives, kFalseNegatives, kFalsePositives, kPositiveFocal, kNegativeFocal, kNumSums };
  // Of positives, then of negatives: A, c / (N+ + N-) and g.
  enum Coefficient { kOverlap, kFocal, kExponent, kNegative, kNumCoefficients = 2 * kNegative };
  static constexpr NamedColumn kSumNames[] = {{"positives", kPositives},
                                              {"negatives", kNegatives},
                                              {"false_negatives", kFalseNegatives},
                                              {"false_positives", kFalsePositives}};

  ClassTerms foreground, background;
  double constant = 0;
  bool generalized = false;

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V (&sums)[kNumSums]) const {
    const PixelError<V> wrong(negated_margin(pixel));
    const MaskOf<V> positive = pixel.counts & pixel.positive, negative = pixel.counts & !pixel.positive;
    sums[kPositives] = add_where(positive, sums[kPositives], V(1));
    sums[kNegatives] = add_where(negative, sums[kNegatives], V(1));
    sums[kFalseNegatives] = add_where(positive, sums[kFalseNegatives], wrong.probability);
    sums[kFalsePositives] = add_where(negative, sums[kFalsePositives], wrong.probability);
    if constexpr (kPixelTerms != PixelTerms::kNone) {
      V focal = wrong.cross_entropy;
      if constexpr (kPixelTerms == PixelTerms::kFocal) {
        using T = ScalarOf<V>;
        focal =
            wrong.focal(select(pixel.positive, PixelError<V>::exponent(V(static_cast<T>(foreground.focal_exponent))),
                               PixelError<V>::exponent(V(static_cast<T>(background.focal_exponent)))));
      }
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
    V of_class[kNegative];
    RAREPIXEL_UNROLL
    for (int i = 0; i < kNegative; ++i) {
      of_class[i] = select(pixel.positive, coefficients[i], coefficients[kNegative + i]);
    }
    // Before it is chosen, which is not in the loop over the pixels.
    of_class[kExponent] = select(pixel.positive, PixelError<V>::exponent(coefficients[kExponent]),
                                 PixelError<V>::exponent(coefficients[kNegative + kExponent]));
    const V slope = slope_of(PixelError<V>(negated_margin(pixel)), of_class);
    return select(pixel.positive, -slope, slope);
  }

 protected:
  // dL/dz by the coefficients of the pixel's class.
  template <class V>
  RAREPIXEL_INLINE static V slope_of(const PixelError<V>& wrong, const V* of_class) {
    V slope = of_class[kOverlap] * (wrong.probability * wrong.complement);
    if constexpr (kPixelTerms == PixelTerms::kPlain) slope = slope + of_class[kFocal] * wrong.probability;
    if constexpr (kPixelTerms == PixelTerms::kFocal) {
      slope = slope + of_class[kFocal] * wrong.focal_slope(of_class[kExponent]);
    }
    return slope;
  }

 private:
  // The classes' overlaps together, by the foreground's false negatives and false positives.
  RAREPIXEL_INLINE static Overlap sum(double value, const Overlap& of_foreground, const Overlap& of_background) {
    return {value, of_foreground.by_false_negative + of_background.by_false_positive,
            of_foreground.by_false_positive + of_background.by_false_negative};
  }

  RAREPIXEL_INLINE Overlap tversky(const double* sums) const {
    const double fn = sums[kFalseNegatives], fp = sums[kFalsePositives];
    const Overlap one = tversky_complement(sums[kPositives] - fn, fn, fp, foreground);
    const Overlap other = tversky_complement(sums[kNegatives] - fp, fp, fn, background);
    return sum(one.value + other.value, one, other);
  }

  RAREPIXEL_INLINE Overlap generalized_dice(const double* sums) const {
    const double positives = sums[kPositives], negatives = sums[kNegatives];
    GeneralizedDice dice;
    dice.add(positives, sums[kFalseNegatives], sums[kFalsePositives]);
    dice.add(negatives, sums[kFalsePositives], sums[kFalseNegatives]);
    const Overlap one = dice.of_class(positives, foreground.region_weight);
    return sum(one.value, one, dice.of_class(negatives, foreground.region_weight));
  }
};

// The same of labels anywhere from 0 to 1.
struct SoftUnifiedFocal : UnifiedFocal<PixelTerms::kFocal> {
  static constexpr bool kSoftLabels = true;

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V label, V (&sums)[kNumSums]) const {
    using T = ScalarOf<V>;
    const PixelError<V> as_negative(pixel.logit), as_positive = as_negative.flipped();
    const V positive = select(pixel.counts, label, V(0)), negative = select(pixel.counts, V(1) - label, V(0));
    const auto add = [&](Sum sum, V weight, V value) __attribute__((always_inline)) {
      sums[sum] = add_where(pixel.counts, sums[sum], weight * value);
    };
    add(kPositives, positive, V(1));
    add(kNegatives, negative, V(1));
    add(kFalseNegatives, positive, as_positive.probability);
    add(kFalsePositives, negative, as_negative.probability);
    add(kPositiveFocal, positive, as_positive.focal(V(static_cast<T>(foreground.focal_exponent))));
    add(kNegativeFocal, negative, as_negative.focal(V(static_cast<T>(background.focal_exponent))));
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, V label, const V (&coefficients)[kNumCoefficients]) const {
    const PixelError<V> as_negative(pixel.logit);
    return (V(1) - label) * slope_of(as_negative, coefficients + kNegative) -
           label * slope_of(as_negative.flipped(), coefficients);
  }
};

namespace operators {

struct unified_focal : Declaration<UnifiedFocal<PixelTerms::kNone>, UnifiedFocal<PixelTerms::kPlain>,
                                   UnifiedFocal<PixelTerms::kFocal>, SoftUnifiedFocal> {
  using Options =
      OptionList<ForwardOption<"terms", Numbers>, Option<"pixel_terms", std::int64_t>, Option<"soft_labels", bool>>;
  static constexpr bool kSettlesApart = true;

  static const char* complaint(Numbers terms, std::int64_t /*pixel_terms*/, bool /*soft_labels*/) {
    return complaint_of_terms(terms);
  }

  template <class Run>
  static auto with_loss(Numbers terms, std::int64_t pixel_terms, bool soft_labels, const Run& run) {
    const auto with_terms = [&](auto loss) {
      set_terms(loss, terms);
      return run(loss);
    };
    if (soft_labels) return with_terms(SoftUnifiedFocal{});
    switch (static_cast<PixelTerms>(pixel_terms)) {
      case PixelTerms::kNone: return with_terms(UnifiedFocal<PixelTerms::kNone>{});
      case PixelTerms::kPlain: return with_terms(UnifiedFocal<PixelTerms::kPlain>{});
      default: return with_terms(UnifiedFocal<PixelTerms::kFocal>{});
    }
  }
};

}  // namespace operators
}  // namespace rarepixel
