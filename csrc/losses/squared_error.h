// Squared error between sigmoid and label, FN + FP (Guo et al., Journal of Software 2021, second stage).
//
//     L = sum of (y - p)^2 = sum over positives of (1 - p)^2  +  sum over negatives of p^2,    p = sigmoid(x)
// the soft number of false negatives plus that of false positives. With z = -x on positives and x on negatives both
// terms are sigmoid(z)^2, and
//     dL/dx = -+2 sigmoid(z)^2 sigmoid(-z)    (- on positives)
#pragma once

#include "../class_balanced.h"
#include "../declaration.h"

namespace rarepixel {

// The sums of ClassBalanced, its losses being false negatives and false positives, with 1 for both weights.
struct SquaredError : ClassBalanced {
  static constexpr NamedColumn kSumNames[] = {{"positives", kPositives},
                                              {"negatives", kNegatives},
                                              {"false_negatives", kPositiveLoss},
                                              {"false_positives", kNegativeLoss}};

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V (&sums)[kNumSums]) const {
    const V p = sigmoid(negated_margin(pixel));
    add(pixel, pixel.counts, p * p, sums);
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums) const {
    return {sums[kPositiveLoss] + sums[kNegativeLoss], sums[kPositives] + sums[kNegatives], {1, 1}};
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, const V (&coefficients)[kNumCoefficients]) const {
    const V z = negated_margin(pixel);
    const V e = exp_negative(absolute(z));
    const V r = reciprocal_of_one_plus(e);  // sigmoid(|z|); sigmoid(-|z|) is e r, and their product e r^2
    const V p = select(z < V(0), e, V(1)) * r;
    return weighted(pixel, V(2) * p * (e * r * r), coefficients);
  }
};

namespace operators {
struct squared_error : Declaration<SquaredError> {};
}  // namespace operators

}  // namespace rarepixel
