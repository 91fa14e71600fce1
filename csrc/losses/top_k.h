// Top-k class-balanced cross-entropy (Guo et al., Journal of Software 2021).
//
// Of a region's negatives the K with the largest loss are kept, which are those with the largest logits, since the loss
// softplus(x) = -log(1 - p) grows with the logit. With N+ positives and beta = K / (K + N+):
//     L = -beta * sum over positives of log p  -  (1 - beta) * sum over kept negatives of log(1 - p)
//     dL/dx = beta (p - 1) on positives,  (1 - beta) p on kept negatives,  0 on the others
// The threshold t, the K-th largest logit, comes from threshold.h. If m negatives lie at t and only r of them have a
// place, each counts r / m: the result does not depend on the order of pixels.
#pragma once

#include "../declaration.h"
#include "../hard_negatives.h"
#include "../threshold.h"

namespace rarepixel {

struct TopK : HardNegatives {
  enum Sum { kPositives, kPositiveLoss, kAboveLoss, kNumSums };
  static constexpr NamedColumn kSumNames[] = {{"positives", kPositives}};
  static constexpr int kNumFound = Threshold::kNumColumns;

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, const V* found, V (&sums)[kNumSums]) const {
    const V threshold = found[Threshold::kLogit];
    const V loss = softplus(negated_margin(pixel));
    const MaskOf<V> positive = pixel.counts & pixel.positive;
    // Also a NaN, which no comparison holds for.
    const MaskOf<V> above = pixel.counts & !(pixel.positive | (pixel.logit < threshold) | (pixel.logit == threshold));
    sums[kPositives] = add_where(positive, sums[kPositives], V(1));
    sums[kPositiveLoss] = add_where(positive, sums[kPositiveLoss], loss);
    sums[kAboveLoss] = add_where(above, sums[kAboveLoss], loss);
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums, const double* found) const {
    const double kept = found[Threshold::kKept], threshold = found[Threshold::kLogit];
    const double places = kept - found[Threshold::kAbove];  // for those at the threshold
    const double ties = found[Threshold::kTies];
    const Weights weights = balance(sums[kPositives], kept);
    const double negative_loss = sums[kAboveLoss] + (places > 0 ? places * softplus(threshold) : 0.0);
    return {weighted_sum(weights.positive, sums[kPositiveLoss]) + weighted_sum(weights.negative, negative_loss),
            weights.positive * sums[kPositives] + weights.negative * kept,
            {weights.positive, weights.negative, ties > 0 ? weights.negative * (places / ties) : 0.0, threshold, kept}};
  }
};

namespace operators {
struct top_k : Declaration<TopK> {};
}  // namespace operators

}  // namespace rarepixel
