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

  // What the kept negatives at the threshold and all kept ones count, from what was found.
  struct Kept {
    double ties, all;
  };

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
    return settle(sums, found, {places_at_threshold(found), found[Threshold::kKept]});
  }

 protected:
  RAREPIXEL_INLINE static double places_at_threshold(const double* found) {
    return found[Threshold::kKept] - found[Threshold::kAbove];
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums, const double* found, const Kept& kept) const {
    const double threshold = found[Threshold::kLogit], places = places_at_threshold(found);
    const double ties = found[Threshold::kTies];
    const ClassWeights weights = balance(sums[kPositives], kept.all);
    const double negative_loss = sums[kAboveLoss] + (kept.ties > 0 ? kept.ties * softplus(threshold) : 0.0);
    return {weighted_sum(weights.positive, sums[kPositiveLoss]) + weighted_sum(weights.negative, negative_loss),
            weights.positive * sums[kPositives] + weights.negative * kept.all,
            {weights.positive, weights.negative, ties > 0 ? weights.negative * (places / ties) : 0.0, threshold,
             found[Threshold::kKept]}};
  }
};

// The same for pixels with weights. Negatives are chosen one by one, whatever they weigh; at the threshold each counts the
// same share of its weight.
struct WeightedTopK : TopK {
  enum Sum { kAbove = TopK::kNumSums, kTies, kNumSums };  // what negatives above and at the threshold weigh

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, const V* found, V (&sums)[kNumSums]) const {
    V of_top_k[TopK::kNumSums];
    for (int s = 0; s < TopK::kNumSums; ++s) of_top_k[s] = sums[s];
    TopK::accumulate(pixel, found, of_top_k);
    for (int s = 0; s < TopK::kNumSums; ++s) sums[s] = of_top_k[s];
    const V threshold = found[Threshold::kLogit];
    const MaskOf<V> negative = pixel.counts & !pixel.positive, tie = pixel.logit == threshold;
    sums[kAbove] = add_where(negative & !(tie | (pixel.logit < threshold)), sums[kAbove], V(1));
    sums[kTies] = add_where(negative & tie, sums[kTies], V(1));
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums, const double* found) const {
    const double ties = found[Threshold::kTies];
    const double kept_ties = ties > 0 ? sums[kTies] * (places_at_threshold(found) / ties) : 0.0;
    return TopK::settle(sums, found, {kept_ties, sums[kAbove] + kept_ties});
  }
};

template <>
struct Weighted<TopK> : WeightedTopK {
  using Unweighted = WeightedTopK;
  static constexpr bool kWeighsPixels = true;
};

namespace operators {

struct top_k : Declaration<TopK> {
  using Options = OptionList<ForwardOption<"counts_absent", bool>>;

  template <class Run>
  static auto with_loss(bool counts_absent, const Run& run) {
    TopK loss;
    loss.counts_absent = counts_absent;
    return run(loss);
  }
};

}  // namespace operators

}  // namespace rarepixel
