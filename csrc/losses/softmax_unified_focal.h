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
// No 1 - p is ever a difference.
//
// Soft labels y are y_k of a pixel of class k in N_k and the cross-entropies; FN_k and FP_k are those of p_k and y_k in
// either form, as in unified_focal.h. With D_k = dL/dp_k in the overlaps and, of the cross-entropies,
//     H_k = c v_k / N y_k w_k^g (1 + g p_k / w_k softplus(z_k)),   w_k = 1 - p_k
//     dL/dx_j = p_j (w_j D_j + sum over k != j of (H_k - D_k p_k)) - w_j H_j
// All exponentials are of one difference from the largest logit, and what the classes share is summed once a pixel. Only
// of a class with p > 1/2 the others are summed apart: of no other does anything cancel in 1 - p.
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

// What the classes of a pixel of soft labels share, with e_k = exp(x_k - top).
template <class V>
struct SoftPixel {
  V top;             // the largest logit
  V dominant;        // the logit of the class with p > 1/2; where there is none it is equal to no logit
  V share;           // p_k = e_k share
  V rest;            // 1 - p of the dominant class
  V log_sum;         // -log p_k = log_sum + top - x_k
  V minus_log_rest;  // -log(1 - p) of the dominant class; with powers alone

  // `below` is the sum of the e_k of smaller logits, `largest` how many are the largest, `second` the one below.
  RAREPIXEL_INLINE SoftPixel(V top_logit, V second, V below, V largest, int classes, bool powers) : top(top_logit) {
    const V others = below + (largest - V(1));  // without one of the largest: from next to 0 to their number
    share = V(1) / (V(1) + others);
    rest = others * share;
    log_sum = log1p_up_to(others, classes - 1);
    dominant = select(others < V(1), top, V(__builtin_nanf("")));
    minus_log_rest = V(0);
    if (powers) {
      const V gap = top - second;
      minus_log_rest = log_sum + gap - log1p_up_to(others / exp_negative(gap) - V(1), classes - 1);
    }
  }

  // top - x, which of infinities is none.
  RAREPIXEL_INLINE static V below_top(V top, V logit) { return select(logit == top, V(0), top - logit); }

 private:
  // log(1 + x) for 0 <= x <= largest: 1 + x is halved until it is at most 2.
  RAREPIXEL_INLINE static V log1p_up_to(V x, int largest) {
    using T = ScalarOf<V>;
    V log(0);
    for (int reached = 1; reached < largest; reached *= 2) {
      const MaskOf<V> above = V(1) < x;
      x = select(above, (x - V(1)) * V(static_cast<T>(0.5)), x);
      log = add_where(above, log, V(static_cast<T>(0.693147180559945309)));
    }
    return log + log1p_unit(x);
  }
};

// One class of it: its probability p, w = 1 - p and -log p.
template <class V>
struct SoftClass {
  MaskOf<V> dominant;
  V label, probability, complement, cross_entropy;

  RAREPIXEL_INLINE SoftClass(const SoftPixel<V>& pixel, V logit, V exponential, V its_label)
      : dominant(logit == pixel.dominant),
        label(its_label),
        probability(exponential * pixel.share),
        complement(select(dominant, pixel.rest, V(1) - probability)),
        cross_entropy(pixel.log_sum + SoftPixel<V>::below_top(pixel.top, logit)) {}

  // y - p, near 1 as (1 - p) - (1 - y).
  RAREPIXEL_INLINE V missing() const { return select(dominant, complement - (V(1) - label), label - probability); }

  // w^g; p / w is at most 1 of a class that is not dominant.
  RAREPIXEL_INLINE V complement_to_the(V g, const SoftPixel<V>& pixel) const {
    return exp_negative(g * select(dominant, pixel.minus_log_rest, log1p_unit(probability / complement)));
  }
};

// Rows of the table are (region, class).
struct SoftmaxUnifiedFocal : RegionLoss, FamilyTerms {
  enum Sum { kPixels, kFalseNegatives, kFalsePositives, kFocalSum, kNumSums };
  // A, B, c v / N and g; the last two, what the parts of the class add to the loss, are for statistics alone.
  enum Coefficient {
    kByFalseNegative,
    kByFalsePositive,
    kFocal,
    kExponent,
    kOverlapLoss,
    kCrossEntropyLoss,
    kNumCoefficients
  };
  enum Pooled { kAllPixels, kDiceWrong, kDiceAll, kPresentWeight, kNumPooled };
  static constexpr NamedColumn kSumNames[] = {
      {"pixels", kPixels}, {"false_negatives", kFalseNegatives}, {"false_positives", kFalsePositives}};
  static constexpr NamedColumn kCoefficientNames[] = {{"overlap_loss", kOverlapLoss},
                                                      {"cross_entropy_loss", kCrossEntropyLoss}};
  static constexpr bool kSeesClasses = true;

  int background_class = 0;
  const double* class_weights = nullptr;  // [classes], of overlaps and cross-entropies; null: 1
  double all_region_weights = 0;          // of all classes
  bool has_focal = false;                 // any cross-entropy at all

  // Terms are those of two classes: their region parts become a mean over the same kinds of classes.
  RAREPIXEL_INLINE void set_classes(int classes) {
    if (generalized != DiceWeights::kNone) return;
    const double share =
        background.region_weight != 0 ? 2.0 / static_cast<double>(classes) : 1.0 / static_cast<double>(classes - 1);
    foreground.region_weight *= share;
    background.region_weight *= share;
    all_region_weights = foreground.region_weight * static_cast<double>(classes - 1) + background.region_weight;
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

  // Adds a pixel to the sums of one class: whether it is the true one, and of the others exp(x_k - top).
  template <class V>
  RAREPIXEL_INLINE void accumulate(const ClassPixel<V>& pixel, MaskOf<V> counts, MaskOf<V> is_true, V exponential,
                                   V focal, V* sums) const {
    const MaskOf<V> mine = counts & is_true, other = counts & !is_true;
    sums[kPixels] = add_where(mine, sums[kPixels], V(1));
    sums[kFalseNegatives] = add_where(mine, sums[kFalseNegatives], pixel.wrong.probability);
    sums[kFalsePositives] =
        add_where(other, sums[kFalsePositives], pixel.wrong.probability * (pixel.share * exponential));
    if (has_focal) sums[kFocalSum] = add_where(mine, sums[kFocalSum], focal);
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

  RAREPIXEL_INLINE void pool(const double* sums, std::int64_t k, double* pooled) const {
    if (sums[kPixels] > 0) pooled[kPresentWeight] += terms_of(k).region_weight;
    GeneralizedDice dice{generalized, smooth, pooled[kDiceWrong], pooled[kDiceAll]};
    dice.add(sums[kPixels], sums[kFalseNegatives], sums[kFalsePositives]);
    pooled[kAllPixels] += sums[kPixels];
    pooled[kDiceWrong] = dice.wrong;
    pooled[kDiceAll] = dice.all;
  }

  // What class k adds to the value of its region; the first class brings what is there once.
  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums, const double* pooled, std::int64_t k) const {
    const double first = k == 0 ? 1 : 0, pixels = pooled[kAllPixels];
    if (pixels == 0) return {0, first, {}};
    ClassTerms terms = terms_of(k);
    const double class_weight = class_weights != nullptr ? class_weights[k] : 1;
    Overlap overlap;
    double overlap_loss;
    if (generalized != DiceWeights::kNone) {
      const GeneralizedDice dice{generalized, smooth, pooled[kDiceWrong], pooled[kDiceAll]};
      overlap = dice.of_class(sums[kPixels], foreground.region_weight);
      overlap_loss = dice.share_of(sums[kPixels], sums[kFalseNegatives], sums[kFalsePositives]) * overlap.value;
      overlap.value *= first;
    } else {
      terms.region_weight *= class_weight;
      if (skips_absent) {
        const double share = share_of_present(all_region_weights, pooled[kPresentWeight]);
        terms.region_weight = sums[kPixels] > 0 ? terms.region_weight * share : 0;
      }
      overlap = tversky_complement(sums[kPixels] - sums[kFalseNegatives], sums[kFalseNegatives], sums[kFalsePositives],
                                   smooth, terms);
      overlap_loss = overlap.value;
    }
    const double focal = terms.focal_weight * class_weight / pixels;
    const double cross_entropy = weighted_sum(focal, sums[kFocalSum]);
    return {overlap.value + cross_entropy + first * constant,
            first,
            {overlap.by_false_negative, overlap.by_false_positive, focal, terms.focal_exponent, overlap_loss,
             cross_entropy}};
  }
};

// The same of soft labels, [N, C, *], or of labels that are made so: (1 - label_smoothing) y + label_smoothing / C.
struct SoftSoftmaxUnifiedFocal : SoftmaxUnifiedFocal {
  static constexpr bool kSoftLabels = true;

  bool hard_labels = false;
  bool semimetric = true;
  double label_smoothing = 0;

  // Whether any cross-entropy is focal.
  RAREPIXEL_INLINE bool has_powers() const {
    return has_focal && (foreground.focal_exponent != 0 || background.focal_exponent != 0);
  }

  // Adds class k of a pixel to the sums of the class.
  template <class V>
  RAREPIXEL_INLINE void accumulate(const SoftPixel<V>& pixel, const SoftClass<V>& one, MaskOf<V> counts, int k,
                                   V* sums) const {
    const auto add = [&](Sum sum, V value) __attribute__((always_inline)) {
      sums[sum] = add_where(counts, sums[sum], value);
    };
    add(kPixels, one.label);
    const V missed = one.missing();
    add(kFalseNegatives, semimetric ? at_least(V(0), missed) : one.label * one.complement);
    add(kFalsePositives, semimetric ? at_least(V(0), -missed) : (V(1) - one.label) * one.probability);
    if (!has_focal) return;
    const double exponent = terms_of(k).focal_exponent;
    V focal = one.cross_entropy;
    if (exponent != 0) focal = one.complement_to_the(V(static_cast<ScalarOf<V>>(exponent)), pixel) * focal;
    // A class without a share takes no part, though its cross-entropy may be infinite.
    sums[kFocalSum] = add_where(counts & !(one.label == V(0)), sums[kFocalSum], one.label * focal);
  }

  // D and H of a class, and what it adds to the slopes of the others.
  template <class V>
  struct ClassSlope {
    V by_probability, by_label, to_others;
  };

  template <class V>
  RAREPIXEL_INLINE ClassSlope<V> class_slope(const SoftPixel<V>& pixel, const SoftClass<V>& one,
                                             const ScalarOf<V>* coefficients) const {
    using T = ScalarOf<V>;
    const V by_missing(coefficients[kByFalseNegative]), by_excess(coefficients[kByFalsePositive]);
    const V missed = one.missing();
    const V slope = semimetric ? select(V(0) < missed, -by_missing, select(missed < V(0), by_excess, V(0)))
                               : (V(1) - one.label) * by_excess - one.label * by_missing;
    V by_label(0);
    if (has_focal) {
      by_label = V(coefficients[kFocal]) * one.label;
      if (coefficients[kExponent] != 0) {
        // Where p is too small to be told from 0 its -log is bounded: infinitely often nothing is nothing.
        const V minus_log = at_most(V(2 * MathConstants<T>::kLargestExponent), one.cross_entropy);
        const V g(coefficients[kExponent]), grown = g * (one.probability / one.complement * minus_log);
        by_label = by_label * (one.complement_to_the(g, pixel) * (V(1) + grown));
      }
    }
    return {slope, by_label, by_label - slope * one.probability};
  }

  // dL/dx of a class by `from_others`, what they add to it.
  template <class V>
  RAREPIXEL_INLINE static V slope_of_logit(V probability, V complement, V by_probability, V by_label, V from_others) {
    return probability * (complement * by_probability + from_others) - complement * by_label;
  }
};

namespace operators {

struct softmax_unified_focal : Declaration<SoftmaxUnifiedFocal, SoftSoftmaxUnifiedFocal> {
  using Options = OptionList<Option<"terms", Numbers>, ForwardOption<"class_weights", NumberPerClass>,
                             Option<"background", std::int64_t>, Option<"soft_labels", bool>,
                             Option<"semimetric", bool>, Option<"label_smoothing", double>>;
  static constexpr bool kSettlesApart = true;

  static const char* complaint(Numbers terms, NumberPerClass /*class_weights*/, std::int64_t /*background*/,
                               bool /*soft_labels*/, bool /*semimetric*/, double /*label_smoothing*/) {
    return complaint_of_terms(terms);
  }

  template <class Run>
  static auto with_loss(Numbers terms, NumberPerClass class_weights, std::int64_t background, bool soft_labels,
                        bool semimetric, double label_smoothing, const Run& run) {
    const auto with_terms = [&](auto loss) {
      set_terms(loss, terms);
      loss.class_weights = class_weights.data;
      loss.background_class = static_cast<int>(background);
      loss.has_focal = loss.foreground.focal_weight != 0 || loss.background.focal_weight != 0;
      return run(loss);
    };
    if (!soft_labels && label_smoothing == 0) return with_terms(SoftmaxUnifiedFocal{});
    SoftSoftmaxUnifiedFocal loss;
    loss.hard_labels = !soft_labels;
    loss.semimetric = semimetric;
    loss.label_smoothing = label_smoothing;
    return with_terms(loss);
  }
};

}  // namespace operators
}  // namespace rarepixel
