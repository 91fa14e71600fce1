// Bin loss (Guo et al., Neurocomputing 2020) and multi-channel bin loss (Guo et al., Neurocomputing 2019).
//
// The negatives of a region fall into B bins of equal width by p = sigmoid(x), and whole bins are kept, from the
// hardest down, until at least key * N+ negatives are kept (without positives, or with key 0, all of them). Borders are
// given as logits. With N+ positives, N- kept negatives and the positives' weight lambda:
//     w+ = lambda N- / (N+ + N-)    w- = N+ / (N+ + N-)
//     L = w+ * sum over positives of softplus(-x)  +  w- * sum over kept negatives of softplus(x)
//     dL/dx = w+ (p - 1) on positives,  w- p on kept negatives,  0 on the others
// Multi-channel: every channel keeps bins of its own; w+ and w- come from N+ and N- of all channels of the image.
#pragma once

#include "hard_negatives.h"

namespace rarepixel {

template <int kBins>
struct BinLoss : HardNegatives {
  // Of negatives: in bin b or a harder one.
  static constexpr int kPositives = 0, kPositiveLoss = 1, kNegatives = 2, kNegativeLoss = kNegatives + kBins;
  static constexpr int kNumSums = kNegativeLoss + kBins;

  double key = 0;
  double positive_weight = 1;
  double borders[kBins] = {};  // borders[b]: the smallest logit of bin b; of bin 0 not looked at

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V (&sums)[kNumSums]) const {
    const V loss = softplus(negated_margin(pixel));
    const MaskOf<V> positive = pixel.counts & pixel.positive;
    const MaskOf<V> negative = pixel.counts & !pixel.positive;
    sums[kPositives] = add_where(positive, sums[kPositives], V(1));
    sums[kPositiveLoss] = add_where(positive, sums[kPositiveLoss], loss);
    RAREPIXEL_UNROLL
    for (int b = 0; b < kBins; ++b) {
      MaskOf<V> here = negative;
      // Not "border <= x": a NaN belongs to the hardest bin, so that it is seen.
      if (b > 0) here = here & !(pixel.logit < V(static_cast<ScalarOf<V>>(borders[b])));
      sums[kNegatives + b] = add_where(here, sums[kNegatives + b], V(1));
      sums[kNegativeLoss + b] = add_where(here, sums[kNegativeLoss + b], loss);
    }
  }

  // The easiest bin that is kept.
  RAREPIXEL_INLINE int lowest_bin(const double* sums) const {
    const double wanted = key * sums[kPositives];
    if (wanted == 0) return 0;
    int bin = kBins - 1;
    while (bin > 0 && sums[kNegatives + bin] < wanted) --bin;
    return bin;
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums) const {
    const int lowest = lowest_bin(sums);
    Weights weights = balance(sums[kPositives], sums[kNegatives + lowest]);
    weights.positive *= positive_weight;
    return settle(sums, lowest, weights, border(lowest));
  }

 protected:
  RAREPIXEL_INLINE double border(int bin) const { return bin > 0 ? borders[bin] : -__builtin_inf(); }

  RAREPIXEL_INLINE static Settled<kNumCoefficients> settle(const double* sums, int lowest, const Weights& weights,
                                                           double threshold) {
    const double kept = sums[kNegatives + lowest];
    return {weighted_sum(weights.positive, sums[kPositiveLoss]) +
                weighted_sum(weights.negative, sums[kNegativeLoss + lowest]),
            weights.positive * sums[kPositives] + weights.negative * kept,
            {weights.positive, weights.negative, weights.negative, threshold, kept}};
  }
};

template <int kBins>
struct MultiChannelBin : BinLoss<kBins> {
  using Base = BinLoss<kBins>;
  using typename HardNegatives::Weights;
  static constexpr int kNumPooled = 2;

  // The published layer counts a quarter of a channel's kept negatives, rounded down, whatever the number of channels;
  // and where it keeps all bins but the easiest one, its backward pass keeps that one, too.
  bool like_caffe = false;

  RAREPIXEL_INLINE void pool(const double* sums, double* pooled) const {
    const double kept = sums[Base::kNegatives + this->lowest_bin(sums)];
    pooled[0] += sums[Base::kPositives];
    pooled[1] += like_caffe ? __builtin_floor(kept / 4) : kept;
  }

  RAREPIXEL_INLINE Settled<Base::kNumCoefficients> settle(const double* sums, const double* pooled,
                                                          std::int64_t /*channel*/) const {
    const int lowest = this->lowest_bin(sums);
    const bool reaches_all = like_caffe && lowest == 1;
    return Base::settle(sums, lowest, Base::balance(pooled[0], pooled[1]), this->border(reaches_all ? 0 : lowest));
  }
};

}  // namespace rarepixel
