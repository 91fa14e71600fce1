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
// and dL/dx is -dL/dz on positives. Generalized Dice has a quotient of its own in place of the first sum
// (generalized_dice.h: one for several channels).
//
// A pixel of soft label y is y of a positive and 1 - y of a negative in N+, N- and the cross-entropies. In the overlaps,
// too, it is that in the product form, FN = sum of y (1 - p) and FP = sum of (1 - y) p, whose minimum is at p = 0 or 1
// whatever the label. The semimetric form (Wang et al., MICCAI 2023) has it at p = y and is the same of labels 0 and 1:
//     FN = sum of max(y - p, 0),  FP = sum of max(p - y, 0)
// The background's FN is the foreground's FP and the other way round, in either form.
#pragma once

#include "../unified_focal_terms.h"

namespace rarepixel {

// Which cross-entropies a loss has: none, plain ones (every exponent is 0), or focal ones. No others are computed.
enum class PixelTerms : int { kNone = 0, kPlain = 1, kFocal = 2 };

template <PixelTerms kPixelTerms>
struct UnifiedFocal : RegionLoss, FamilyTerms {
  enum Sum { kPositives, kNegatives, kFalseNegatives, kFalsePositives, kPositiveFocal, kNegativeFocal, kNumSums };
  // Of positives, then of negatives: A, c / (N+ + N-) and g. The last two, what the parts add to the loss, are for
  // statistics alone.
  enum Coefficient {
    kOverlap,
    kFocal,
    kExponent,
    kNegative,
    kOverlapLoss = 2 * kNegative,
    kCrossEntropyLoss,
    kNumCoefficients
  };
  static constexpr NamedColumn kCoefficientNames[] = {{"overlap_loss", kOverlapLoss},
                                                      {"cross_entropy_loss", kCrossEntropyLoss}};
  static constexpr NamedColumn kSumNames[] = {{"positives", kPositives},
                                              {"negatives", kNegatives},
                                              {"false_negatives", kFalseNegatives},
                                              {"false_positives", kFalsePositives}};

  static constexpr bool kKnowsChannel = true;

  // Where regions are channels, one of each: of the positives' cross-entropies, and of the whole.
  NumberPerClass positive_weights, class_weights;

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

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums, std::int64_t region) const {
    const double pixels = sums[kPositives] + sums[kNegatives];
    if (pixels == 0) return {0, 1, {}};
    const Overlap overlap = generalized != DiceWeights::kNone ? generalized_dice(sums) : tversky(sums);
    const double positive_focal = of_channel(positive_weights, region) * foreground.focal_weight / pixels;
    const double negative_focal = background.focal_weight / pixels;
    const double w = of_channel(class_weights, region);
    const double of_positives = weighted_sum(positive_focal, sums[kPositiveFocal]);
    const double of_negatives = weighted_sum(negative_focal, sums[kNegativeFocal]);
    return {weighted_sum(w, overlap.value + of_positives + of_negatives + constant),
            1,
            {w * overlap.by_false_negative, w * positive_focal, foreground.focal_exponent,
             w * overlap.by_false_positive, w * negative_focal, background.focal_exponent, w * overlap.value,
             weighted_sum(w, of_positives + of_negatives)}};
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

  // Generalized Dice: both classes of a region in a quotient, and what they have of it.
  RAREPIXEL_INLINE static void add_classes(GeneralizedDice& dice, const double* sums) {
    dice.add(sums[kPositives], sums[kFalseNegatives], sums[kFalsePositives]);
    dice.add(sums[kNegatives], sums[kFalsePositives], sums[kFalseNegatives]);
  }

  RAREPIXEL_INLINE static Overlap of_classes(const GeneralizedDice& dice, const double* sums, double region_weight) {
    const Overlap one = dice.of_class(sums[kPositives], region_weight);
    return sum(one.value, one, dice.of_class(sums[kNegatives], region_weight));
  }

 private:
  RAREPIXEL_INLINE static double of_channel(const NumberPerClass& numbers, std::int64_t region) {
    return numbers.data == nullptr ? 1 : numbers.data[region % numbers.size];
  }

  // The classes' overlaps together, by the foreground's false negatives and false positives.
  RAREPIXEL_INLINE static Overlap sum(double value, const Overlap& of_foreground, const Overlap& of_background) {
    return {value, of_foreground.by_false_negative + of_background.by_false_positive,
            of_foreground.by_false_positive + of_background.by_false_negative};
  }

  RAREPIXEL_INLINE Overlap tversky(const double* sums) const {
    const double positives = sums[kPositives], negatives = sums[kNegatives];
    const double fn = sums[kFalseNegatives], fp = sums[kFalsePositives];
    ClassTerms of_one = foreground, of_other = background;
    if (skips_absent) {
      const double all = of_one.region_weight + of_other.region_weight;
      if (positives == 0) of_one.region_weight = 0;
      if (negatives == 0) of_other.region_weight = 0;
      const double share = share_of_present(all, of_one.region_weight + of_other.region_weight);
      of_one.region_weight *= share;
      of_other.region_weight *= share;
    }
    const Overlap one = tversky_complement(positives - fn, fn, fp, smooth, of_one);
    const Overlap other = tversky_complement(negatives - fp, fp, fn, smooth, of_other);
    return sum(one.value + other.value, one, other);
  }

  RAREPIXEL_INLINE Overlap generalized_dice(const double* sums) const {
    GeneralizedDice dice{generalized, smooth};
    add_classes(dice, sums);
    return of_classes(dice, sums, foreground.region_weight);
  }
};

// The same of labels anywhere from 0 to 1, which are smoothed: (1 - label_smoothing) y + label_smoothing / 2.
struct SoftUnifiedFocal : UnifiedFocal<PixelTerms::kFocal> {
  static constexpr bool kSoftLabels = true;

  bool semimetric = true;
  double label_smoothing = 0;

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V label, V (&sums)[kNumSums]) const {
    label = smoothed(label);
    const PixelError<V> as_negative(pixel.logit), as_positive = as_negative.flipped();
    const V other = V(1) - label;
    const auto add = [&](Sum sum, V value) __attribute__((always_inline)) {
      sums[sum] = add_where(pixel.counts, sums[sum], value);
    };
    add(kPositives, label);
    add(kNegatives, other);
    const V missed = missing(as_negative, label);
    add(kFalseNegatives, semimetric ? at_least(V(0), missed) : label * as_positive.probability);
    add(kFalsePositives, semimetric ? at_least(V(0), -missed) : other * as_negative.probability);
    // A class without a share takes no part, though its cross-entropy may be infinite.
    const auto add_focal = [&](Sum sum, V share, const PixelError<V>& wrong, double exponent)
        __attribute__((always_inline)) {
      const V focal = exponent == 0 ? wrong.cross_entropy : wrong.focal(V(static_cast<ScalarOf<V>>(exponent)));
      sums[sum] = add_where(pixel.counts & !(share == V(0)), sums[sum], share * focal);
    };
    add_focal(kPositiveFocal, label, as_positive, foreground.focal_exponent);
    add_focal(kNegativeFocal, other, as_negative, background.focal_exponent);
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, V label, const V (&coefficients)[kNumCoefficients]) const {
    label = smoothed(label);
    // Beyond, the slopes do not change any more, and an infinite cross-entropy times 0 is none.
    const V bound(2 * MathConstants<ScalarOf<V>>::kLargestExponent);
    const PixelError<V> as_negative(at_least(-bound, at_most(bound, pixel.logit))), as_positive = as_negative.flipped();
    const V other = V(1) - label;
    const V of_label = coefficients[kFocal] * as_positive.focal_slope(coefficients[kExponent]);
    const V of_other = coefficients[kNegative + kFocal] * as_negative.focal_slope(coefficients[kNegative + kExponent]);
    const V by_missing = coefficients[kOverlap], by_excess = coefficients[kNegative + kOverlap];
    const V missed = missing(as_negative, label);
    // dL / d(p)
    const V by_probability = semimetric ? select(V(0) < missed, -by_missing, select(missed < V(0), by_excess, V(0)))
                                        : other * by_excess - label * by_missing;
    return by_probability * (as_negative.probability * as_negative.complement) + (other * of_other - label * of_label);
  }

 private:
  template <class V>
  RAREPIXEL_INLINE V smoothed(V label) const {
    using T = ScalarOf<V>;
    return fma(label, V(static_cast<T>(1 - label_smoothing)), V(static_cast<T>(label_smoothing / 2)));
  }

  // y - p, near 1 as (1 - p) - (1 - y).
  template <class V>
  RAREPIXEL_INLINE static V missing(const PixelError<V>& as_negative, V label) {
    const MaskOf<V> high = as_negative.complement < as_negative.probability;
    return select(high, as_negative.complement - (V(1) - label), label - as_negative.probability);
  }
};

// The same of labels 0 and 1.
struct SmoothedUnifiedFocal : SoftUnifiedFocal {
  static constexpr bool kSoftLabels = false;

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V (&sums)[kNumSums]) const {
    SoftUnifiedFocal::accumulate(pixel, select(pixel.positive, V(1), V(0)), sums);
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, const V (&coefficients)[kNumCoefficients]) const {
    return SoftUnifiedFocal::gradient(pixel, select(pixel.positive, V(1), V(0)), coefficients);
  }
};

namespace operators {

struct unified_focal : Declaration<UnifiedFocal<PixelTerms::kNone>, UnifiedFocal<PixelTerms::kPlain>,
                                   UnifiedFocal<PixelTerms::kFocal>, SoftUnifiedFocal, SmoothedUnifiedFocal> {
  using Options =
      OptionList<ForwardOption<"terms", Numbers>, ForwardOption<"positive_weights", NumberPerClass>,
                 ForwardOption<"class_weights", NumberPerClass>, Option<"pixel_terms", std::int64_t>,
                 Option<"soft_labels", bool>, Option<"semimetric", bool>, Option<"label_smoothing", double>>;
  static constexpr bool kSettlesApart = true;

  static const char* complaint(Numbers terms, NumberPerClass /*positive_weights*/, NumberPerClass /*class_weights*/,
                               std::int64_t /*pixel_terms*/, bool /*soft_labels*/, bool /*semimetric*/,
                               double /*label_smoothing*/) {
    return complaint_of_terms(terms);
  }

  template <class Run>
  static auto with_loss(Numbers terms, NumberPerClass positive_weights, NumberPerClass class_weights,
                        std::int64_t pixel_terms, bool soft_labels, bool semimetric, double label_smoothing,
                        const Run& run) {
    const auto with_terms = [&](auto loss) {
      set_terms(loss, terms);
      loss.positive_weights = positive_weights;
      loss.class_weights = class_weights;
      return run(loss);
    };
    const auto with_soft = [&](auto loss) {
      loss.semimetric = semimetric;
      loss.label_smoothing = label_smoothing;
      return with_terms(loss);
    };
    if (soft_labels) return with_soft(SoftUnifiedFocal{});
    if (label_smoothing > 0) return with_soft(SmoothedUnifiedFocal{});
    switch (static_cast<PixelTerms>(pixel_terms)) {
      case PixelTerms::kNone: return with_terms(UnifiedFocal<PixelTerms::kNone>{});
      case PixelTerms::kPlain: return with_terms(UnifiedFocal<PixelTerms::kPlain>{});
      default: return with_terms(UnifiedFocal<PixelTerms::kFocal>{});
    }
  }
};

}  // namespace operators
}  // namespace rarepixel
