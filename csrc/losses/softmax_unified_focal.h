// The Unified Focal family of C classes of which one is true (Yeung et al., Computerized Medical Imaging and Graphics
// 2022): softmax over the logits x of a pixel.
//
// Of a pixel with true class t, all other classes together are one rival. All is as with two classes, unified_focal.h:
//     z = log(sum over k != t of exp x_k) - x_t,   w = sigmoid(z) = 1 - p_t,   q_k = exp(x_k) / (sum over the others)
//     p_k = w q_k,   q_t = 0
// Of each class k, over the pixels of a region (an image, or the batch):
//     FN_k = sum where t = k of w,  FP_k = sum of w q_k,  TP_k = N_k - FN_k
//     L = sum over k of r u_k^e  +  sum over k of c v_k / N sum where t = k of w^g softplus(z)  + constant
// u_k as there, v_k a weight that the caller gives the class, N the pixels of the region. The background has r, e, c
// and g of its own, the other classes share theirs.
//
// With A_k = dL/dFN_k, B_k = dL/dFP_k, F = c v_t / N w^g (g (1 - w) softplus(z) + w), M = A_t + sum over k of B_k q_k
//     dL/dx_t = -(w (1 - w) M + F),   dL/dx_k = w q_k (B_k + (1 - w) A_t - w sum of B q) + q_k F
// No 1 - p is ever a difference. A pixel of soft labels y is y_t of a pixel of each class t.
//
// With an infinite logit all this is its limit: a class of -infinity has p = 0, one of +infinity p = 1. Of several of
// +infinity, and of all of -infinity, there is none: NaN.
#pragma once

#include "../unified_focal_terms.h"

namespace rarepixel {

// A pixel as its true class against the rival, all other classes together.
template <class V>
struct ClassPixel {
  PixelError<V> wrong;
  V share;  // q_k = exp(x_k - top) share

  // `top` is the largest logit of the others, `sum` that of their exp(x_k - top): from 1 to their number.
  RAREPIXEL_INLINE ClassPixel(V true_logit, V top, V sum, int classes)
      : wrong(top - true_logit + log_from_one(sum, classes - 1)), share(V(1) / sum) {}

  // What to take for an infinite `top` in exp(x_k - top), where it would be infinity - infinity.
  RAREPIXEL_INLINE static V bounded(V top) {
    constexpr auto kLargest = MathConstants<ScalarOf<V>>::kLargest;
    return at_least(V(-kLargest), at_most(V(kLargest), top));
  }

  // `sum`, NaN where several of the others are +infinity.
  RAREPIXEL_INLINE static V of_one_infinity(V top, V sum) {
    using T = ScalarOf<V>;
    const MaskOf<V> several = (V(MathConstants<T>::kLargest) < top) & (V(static_cast<T>(1.5)) < sum);
    return select(several, V(static_cast<T>(__builtin_nanf(""))), sum);
  }

 private:
  // log(x) for 1 <= x <= largest: halved until it is at most 2.
  RAREPIXEL_INLINE static V log_from_one(V x, int largest) {
    using T = ScalarOf<V>;
    V log(0);
    for (int reached = 2; reached < largest; reached *= 2) {
      const MaskOf<V> above = V(2) < x;
      x = select(above, x * V(static_cast<T>(0.5)), x);
      log = add_where(above, log, V(static_cast<T>(0.693147180559945309)));
    }
    return log + log1p_unit(x - V(1));
  }
};

// Rows of the table are (region, class).
struct SoftmaxUnifiedFocal : RegionLoss {
  enum Sum { kPixels, kFalseNegatives, kFalsePositives, kFocalSum, kNumSums };
  enum Coefficient { kByFalseNegative, kByFalsePositive, kFocal, kExponent, kNumCoefficients };  // A, B, c v / N, g
  enum Pooled { kAllPixels, kDiceWrong, kDiceAll, kNumPooled };
  static constexpr NamedColumn kSumNames[] = {
      {"pixels", kPixels}, {"false_negatives", kFalseNegatives}, {"false_positives", kFalsePositives}};
  static constexpr bool kSeesClasses = true;

  ClassTerms foreground, background;
  int background_class = 0;
  bool soft_labels = false;
  const double* class_weights = nullptr;  // [classes], of the cross-entropies; null: 1
  double constant = 0;
  bool generalized = false;
  bool has_focal = false;  // any cross-entropy at all

  // Terms are those of two classes: their region parts become a mean over the same kinds of classes.
  RAREPIXEL_INLINE void set_classes(int classes) {
    if (generalized) return;
    const double share =
        background.region_weight != 0 ? 2.0 / static_cast<double>(classes) : 1.0 / static_cast<double>(classes - 1);
    foreground.region_weight *= share;
    background.region_weight *= share;
  }

  RAREPIXEL_INLINE const ClassTerms& terms_of(std::int64_t k) const {
    return k == background_class ? background : foreground;
  }

  // ---- A pixel ----

  // w^g softplus(z) by the exponent of the true class.
  template <class V>
  RAREPIXEL_INLINE V focal(const ClassPixel<V>& pixel, MaskOf<V> is_background) const {
    using T = ScalarOf<V>;
    if (foreground.focal_exponent == 0 && background.focal_exponent == 0) return pixel.wrong.cross_entropy;
    return pixel.wrong.focal(select(is_background,
                                    PixelError<V>::exponent(V(static_cast<T>(background.focal_exponent))),
                                    PixelError<V>::exponent(V(static_cast<T>(foreground.focal_exponent)))));
  }

  // Adds `weight` of a pixel to the sums of one class: whether it is the true one, and of the others exp(x_k - top).
  template <class V>
  RAREPIXEL_INLINE void accumulate(const ClassPixel<V>& pixel, MaskOf<V> counts, MaskOf<V> is_true, V weight,
                                   V exponential, V focal, V* sums) const {
    const MaskOf<V> mine = counts & is_true, other = counts & !is_true;
    sums[kPixels] = add_where(mine, sums[kPixels], weight);
    sums[kFalseNegatives] = add_where(mine, sums[kFalseNegatives], weight * pixel.wrong.probability);
    sums[kFalsePositives] =
        add_where(other, sums[kFalsePositives], weight * (pixel.wrong.probability * (pixel.share * exponential)));
    if (has_focal) sums[kFocalSum] = add_where(mine, sums[kFocalSum], weight * focal);
  }

  // What the slopes of a pixel share: by the coefficients of its true class, and the sum of B_k exp(x_k - top).
  template <class V>
  struct Slopes {
    V of_true, rival, of_focal, missed;  // dL/dx_t; w; F; (1 - w) A_t - w sum of B q
  };

  template <class V>
  RAREPIXEL_INLINE Slopes<V> slopes(const ClassPixel<V>& pixel, const V (&of_true)[kNumCoefficients], V weighed) const {
    const V w = pixel.wrong.probability, p = pixel.wrong.complement, by_others = weighed * pixel.share;
    V of_focal(0);
    if (has_focal) of_focal = of_true[kFocal] * pixel.wrong.focal_slope(PixelError<V>::exponent(of_true[kExponent]));
    return {-(w * p * (of_true[kByFalseNegative] + by_others) + of_focal), w, of_focal,
            p * of_true[kByFalseNegative] - w * by_others};
  }

  // dL/dx_k of a class that is not the true one.
  template <class V>
  RAREPIXEL_INLINE V slope_of_other(const ClassPixel<V>& pixel, const Slopes<V>& slopes, V by_false_positive,
                                    V exponential) const {
    return pixel.share * exponential * (slopes.rival * (by_false_positive + slopes.missed) + slopes.of_focal);
  }

  // ---- A region ----

  RAREPIXEL_INLINE void pool(const double* sums, double* pooled) const {
    GeneralizedDice dice{pooled[kDiceWrong], pooled[kDiceAll]};
    dice.add(sums[kPixels], sums[kFalseNegatives], sums[kFalsePositives]);
    pooled[kAllPixels] += sums[kPixels];
    pooled[kDiceWrong] = dice.wrong;
    pooled[kDiceAll] = dice.all;
  }

  // What class k adds to the value of its region; the first class brings what is there once.
  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums, const double* pooled, std::int64_t k) const {
    const double first = k == 0 ? 1 : 0, pixels = pooled[kAllPixels];
    if (pixels == 0) return {0, first, {}};
    const ClassTerms& terms = terms_of(k);
    Overlap overlap;
    if (generalized) {
      const GeneralizedDice dice{pooled[kDiceWrong], pooled[kDiceAll]};
      overlap = dice.of_class(sums[kPixels], foreground.region_weight);
      overlap.value *= first;
    } else {
      overlap = tversky_complement(sums[kPixels] - sums[kFalseNegatives], sums[kFalseNegatives], sums[kFalsePositives],
                                   terms);
    }
    const double focal = terms.focal_weight * (class_weights != nullptr ? class_weights[k] : 1) / pixels;
    return {overlap.value + weighted_sum(focal, sums[kFocalSum]) + first * constant,
            first,
            {overlap.by_false_negative, overlap.by_false_positive, focal, terms.focal_exponent}};
  }
};

namespace operators {

struct softmax_unified_focal : Declaration<SoftmaxUnifiedFocal> {
  using Options = OptionList<Option<"terms", Numbers>, ForwardOption<"class_weights", NumberPerClass>,
                             Option<"background", std::int64_t>, Option<"soft_labels", bool>>;
  static constexpr bool kSettlesApart = true;

  static const char* complaint(Numbers terms, NumberPerClass /*class_weights*/, std::int64_t /*background*/,
                               bool /*soft_labels*/) {
    return complaint_of_terms(terms);
  }

  template <class Run>
  static auto with_loss(Numbers terms, NumberPerClass class_weights, std::int64_t background, bool soft_labels,
                        const Run& run) {
    SoftmaxUnifiedFocal loss;
    set_terms(loss, terms);
    loss.class_weights = class_weights.data;
    loss.background_class = static_cast<int>(background);
    loss.soft_labels = soft_labels;
    loss.has_focal = loss.foreground.focal_weight != 0 || loss.background.focal_weight != 0;
    return run(loss);
  }
};

}  // namespace operators
}  // namespace rarepixel
