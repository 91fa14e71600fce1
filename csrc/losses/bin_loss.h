// Bin loss (Guo et al., Neurocomputing 2020).
//
// The negatives of a region fall into B bins of equal width by p = sigmoid(x), and whole bins are kept, from the
// hardest down, until at least key * N+ negatives are kept (without positives, or with key 0, all of them). Borders are
// given as logits. With N+ positives, N- kept negatives and the positives' weight lambda:
//     w+ = lambda N- / (N+ + N-)    w- = N+ / (N+ + N-)
//     L = w+ * sum over positives of softplus(-x)  +  w- * sum over kept negatives of softplus(x)
//     dL/dx = w+ (p - 1) on positives,  w- p on kept negatives,  0 on the others
#pragma once

#include "../declaration.h"
#include "../hard_negatives.h"

namespace rarepixel {

template <int kBins>
struct BinLoss : HardNegatives {
  // Of negatives: in bin b or a harder one.
  static constexpr int kPositives = 0, kPositiveLoss = 1, kNegatives = 2, kNegativeLoss = kNegatives + kBins;
  static constexpr int kNumSums = kNegativeLoss + kBins;
  static constexpr NamedColumn kSumNames[] = {{"positives", kPositives}};
  static constexpr bool kKnowsChannel = true;

  double key = 0;
  double positive_weight = 1;
  NumberPerClass positive_weights;  // instead, one a channel, where regions are channels
  double borders[kBins] = {};       // borders[b]: the smallest logit of bin b; of bin 0 not looked at
  int hardest_bin = kBins - 1;

  // Into bins that were not asked for falls nothing finite, and nobody looks at them.
  RAREPIXEL_INLINE void set_borders(Numbers between_bins) {
    hardest_bin = static_cast<int>(between_bins.size);
    for (int b = 1; b < kBins; ++b) borders[b] = b <= between_bins.size ? between_bins.data[b - 1] : __builtin_inf();
  }

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
    int bin = hardest_bin;
    while (bin > 0 && sums[kNegatives + bin] < wanted) --bin;
    return bin;
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums, std::int64_t region) const {
    const int lowest = lowest_bin(sums);
    ClassWeights weights = balance(sums[kPositives], sums[kNegatives + lowest]);
    weights.positive *=
        positive_weights.data == nullptr ? positive_weight : positive_weights.data[region % positive_weights.size];
    return settle(sums, lowest, weights, border(lowest));
  }

 protected:
  RAREPIXEL_INLINE double border(int bin) const { return bin > 0 ? borders[bin] : -__builtin_inf(); }

  RAREPIXEL_INLINE static Settled<kNumCoefficients> settle(const double* sums, int lowest, const ClassWeights& weights,
                                                           double threshold) {
    const double kept = sums[kNegatives + lowest];
    return {weighted_sum(weights.positive, sums[kPositiveLoss]) +
                weighted_sum(weights.negative, sums[kNegativeLoss + lowest]),
            weights.positive * sums[kPositives] + weights.negative * kept,
            {weights.positive, weights.negative, weights.negative, threshold, kept}};
  }
};

namespace operators {

inline constexpr int kFewBins = 5, kMostBins = 16;  // that there is room for

struct bin_loss : Declaration<BinLoss<kFewBins>, BinLoss<kMostBins>> {
  using Options = OptionList<ForwardOption<"key", double>, ForwardOption<"positive_weight", double>,
                             ForwardOption<"positive_weights", NumberPerClass>, ForwardOption<"counts_absent", bool>,
                             ForwardOption<"borders", Numbers>, Option<"bins", std::int64_t>>;

  static const char* complaint(double /*key*/, double /*positive_weight*/, NumberPerClass /*positive_weights*/,
                               bool /*counts_absent*/, Numbers borders, std::int64_t bins) {
    return borders.size == bins - 1 && bins <= kMostBins ? nullptr : "expected a border less than bins, at most 16";
  }

  template <class Run>
  static auto with_loss(double key, double positive_weight, NumberPerClass positive_weights, bool counts_absent,
                        Numbers borders, std::int64_t bins, const Run& run) {
    const auto with_room = [&](auto loss) {
      loss.key = key;
      loss.positive_weight = positive_weight;
      loss.positive_weights = positive_weights;
      loss.counts_absent = counts_absent;
      loss.set_borders(borders);
      return run(loss);
    };
    if (bins <= kFewBins) return with_room(BinLoss<kFewBins>{});
    return with_room(BinLoss<kMostBins>{});
  }
};

}  // namespace operators
}  // namespace rarepixel
