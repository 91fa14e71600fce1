// What a loss of the Unified Focal family is made of, class by class: the part that the two-class losses
// (unified_focal.h) and those over a softmax (softmax_unified_focal.h) share.
#pragma once

#include "declaration.h"
#include "region.h"

namespace rarepixel {

// One class's part: r, e, a and b of its Tversky index, c and g of its cross-entropy (unified_focal.h).
struct ClassTerms {
  double region_weight = 0, region_exponent = 1;
  double false_negative_weight = 0.5, false_positive_weight = 0.5;
  double focal_weight = 0, focal_exponent = 0;
};

// A region part and its derivatives by a class's false negatives (each is one less found) and false positives.
struct Overlap {
  double value = 0, by_false_negative = 0, by_false_positive = 0;
};

// r u^e, with u = (a FN + b FP) / (TP + a FN + b FP + smooth) from its own numerator.
RAREPIXEL_INLINE Overlap tversky_complement(double tp, double fn, double fp, double smooth, const ClassTerms& terms) {
  const double missed = terms.false_negative_weight * fn + terms.false_positive_weight * fp;
  const double all = tp + missed + smooth;
  const double u = all > 0 ? missed / all : missed;  // nothing to find and nothing found: 0, without a smooth, too
  if (terms.region_weight == 0) return {};
  if (terms.region_exponent == 0) return {terms.region_weight + 0 * u, 0, 0};  // 0^0, too; a NaN is seen
  if (u == 0) return {};                                                       // its slope is taken to be 0
  const double value = terms.region_weight * power(u, terms.region_exponent);
  const double slope = terms.region_exponent * value / u / (all * all);
  return {value, slope * (terms.false_negative_weight * (tp + smooth) + missed),
          slope * terms.false_positive_weight * (tp + smooth)};
}

// What a class of generalized Dice weighs: 1 / pixels^2, 1 / pixels, or 1. The losses are no such one for kNone.
enum class DiceWeights : int { kNone = 0, kSquare = 1, kSimple = 2, kUniform = 3 };

// Generalized Dice (Sudre et al., 2017): all classes in one quotient, each with its weight v, which is 0 where it has no
// pixel:  sum of v (FN + FP) / (sum of v (2 TP + FN + FP) + smooth sum of v)
struct GeneralizedDice {
  DiceWeights weights = DiceWeights::kSquare;
  double smooth = 0;
  double wrong = 0, all = 0;

  // Of soft labels a class may have next to none of the pixels: below that square it has none.
  RAREPIXEL_INLINE double weight(double pixels) const {
    if (!(pixels > 1e-100)) return 0;
    if (weights == DiceWeights::kUniform) return 1;
    return 1 / (weights == DiceWeights::kSimple ? pixels : pixels * pixels);
  }

  RAREPIXEL_INLINE void add(double pixels, double fn, double fp) {
    const double v = weight(pixels);
    wrong += v * (fn + fp);
    all += v * (2 * (pixels - fn) + fn + fp + smooth);
  }

  // 0 without pixels; NaN stays.
  RAREPIXEL_INLINE double value() const { return all == 0 ? 0 : wrong / all; }

  // What a class has of the value.
  RAREPIXEL_INLINE double share_of(double pixels, double fn, double fp) const {
    return wrong == 0 ? 0 : weight(pixels) * (fn + fp) / wrong;
  }

  // Of a class; its value is that of all classes together.
  RAREPIXEL_INLINE Overlap of_class(double pixels, double region_weight) const {
    const double slope = all == 0 ? 0 : region_weight * weight(pixels) / (all * all);
    return {region_weight * value(), slope * (all + wrong), slope * (all - wrong)};
  }
};

// How wrong a pixel is: w = sigmoid(z), 1 - w, softplus(z) and softplus(-z) = -log w, from one exponential.
template <class V>
struct PixelError {
  V probability, complement, cross_entropy, minus_log;
  V bounded;  // cross_entropy, as far as exp(-|z|) follows z

  RAREPIXEL_INLINE explicit PixelError(V z) {
    const V a = bounded_exponent(absolute(z)), e = exp_bounded(a);
    const V r = reciprocal_of_one_plus(e), l = log1p_unit(e);
    const MaskOf<V> right = z < V(0);
    probability = select(right, e, V(1)) * r;
    complement = select(right, V(1), e) * r;
    cross_entropy = l + at_least(V(0), z);
    minus_log = l - at_most(V(0), z);
    bounded = add_where(!right, l, a);
  }

  // The same of -z.
  RAREPIXEL_INLINE PixelError flipped() const {
    PixelError other = *this;
    other.probability = complement;
    other.complement = probability;
    other.cross_entropy = minus_log;
    other.minus_log = cross_entropy;
    other.bounded = at_most(V(MathConstants<ScalarOf<V>>::kLargestExponent), minus_log);
    return other;
  }

  // An exponent for the functions below. 0 times an infinite -log w would be a NaN; this is as good as 0, but where -log w
  // is so large that what it is a factor of is next to 0. Its products are not subnormal where -log w is of any use.
  RAREPIXEL_INLINE static V exponent(V g) {
    using T = ScalarOf<V>;
    return at_least(V(static_cast<T>(sizeof(T) == 4 ? 0x1p-60 : 0x1p-500)), g);
  }

  // w^g: no power of a number near 0, no slope that is infinite.
  RAREPIXEL_INLINE V to_the(V g) const { return exp_negative(g * minus_log); }

  // w^g softplus(z) and its derivative by z, of which (1 - w) softplus(z) tends to 0 as exp(-z) z does.
  RAREPIXEL_INLINE V focal(V g) const { return to_the(g) * cross_entropy; }
  RAREPIXEL_INLINE V focal_slope(V g) const { return to_the(g) * (g * complement * bounded + probability); }
};

// What a loss of the family is made of.
struct FamilyTerms {
  ClassTerms foreground, background;
  double constant = 0;
  DiceWeights generalized = DiceWeights::kNone;
  double smooth = 0;
  bool skips_absent = false;  // classes without pixels leave their share of the overlaps to the others
};

// By what an overlap is multiplied where classes are left out: `present` is what those that are there weigh.
RAREPIXEL_INLINE double share_of_present(double all, double present) { return present > 0 ? all / present : 0; }

// The terms as operators get them: six numbers of the foreground, in the order of ClassTerms, six of the background, and
// what follows there.
inline constexpr int kNumTerms = 16;

inline const char* complaint_of_terms(Numbers terms) { return terms.size == kNumTerms ? nullptr : "expected 16 terms"; }

// Without any terms, which the gradient of two classes does not need, the loss is left alone.
RAREPIXEL_INLINE void set_terms(FamilyTerms& loss, Numbers terms) {
  if (terms.size != kNumTerms) return;
  const double* t = terms.data;
  loss.foreground = {t[0], t[1], t[2], t[3], t[4], t[5]};
  loss.background = {t[6], t[7], t[8], t[9], t[10], t[11]};
  loss.constant = t[12];
  loss.generalized = static_cast<DiceWeights>(static_cast<int>(t[13]));
  loss.smooth = t[14];
  loss.skips_absent = t[15] != 0;
}

}  // namespace rarepixel
