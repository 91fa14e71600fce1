// Multi-channel bin loss (Guo et al., Neurocomputing 2019).
//
// Labels are a map of indices: 0 is background, channel c is positive where the label is c + 1. Every channel keeps
// bins of negatives of its own (bin_loss.h), until at least key times its positives are kept. With N+ positives and N-
// kept negatives of all channels of the image together:
//     w+ = N- / (N+ + N-)    w- = N+ / (N+ + N-)
//     L = sum over channels of  w+ * sum over positives of softplus(-x)  +  w- * sum over kept negatives of softplus(x)
//     dL/dx = w+ (p - 1) on positives,  w- p on kept negatives,  0 on the others
#pragma once

#include "bin_loss.h"

namespace rarepixel {

template <int kBins>
struct MultiChannelBin : BinLoss<kBins> {
  using Base = BinLoss<kBins>;
  static constexpr bool kIndexMap = true;
  enum Pooled { kAllPositives, kAllKept, kNumPooled };

  // As the published layer computes it: it counts a quarter of a channel's kept negatives, rounded down, whatever the
  // number of channels; where it keeps all bins but the easiest one, its backward pass keeps that one, too; and labels
  // beyond the channels are background.
  bool caffe = false;

  RAREPIXEL_INLINE bool takes_any_index() const { return caffe; }

  RAREPIXEL_INLINE void pool(const double* sums, std::int64_t /*channel*/, double* pooled) const {
    const double kept = sums[Base::kNegatives + this->lowest_bin(sums)];
    pooled[kAllPositives] += sums[Base::kPositives];
    pooled[kAllKept] += caffe ? __builtin_floor(kept / 4) : kept;
  }

  RAREPIXEL_INLINE Settled<Base::kNumCoefficients> settle(const double* sums, const double* pooled,
                                                          std::int64_t /*channel*/) const {
    const int lowest = this->lowest_bin(sums);
    const bool reaches_all = caffe && lowest == 1;
    return Base::settle(sums, lowest, this->balance(pooled[kAllPositives], pooled[kAllKept]),
                        this->border(reaches_all ? 0 : lowest));
  }
};

namespace operators {

struct multi_channel_bin : Declaration<MultiChannelBin<kFewBins>> {
  using Options = OptionList<ForwardOption<"key", double>, ForwardOption<"caffe", bool>,
                             ForwardOption<"counts_absent", bool>, ForwardOption<"borders", Numbers>>;

  static const char* complaint(double /*key*/, bool /*caffe*/, bool /*counts_absent*/, Numbers borders) {
    return borders.size == kFewBins - 1 ? nullptr : "expected 4 borders";
  }

  template <class Run>
  static auto with_loss(double key, bool caffe, bool counts_absent, Numbers borders, const Run& run) {
    MultiChannelBin<kFewBins> loss;
    loss.key = key;
    loss.caffe = caffe;
    loss.counts_absent = counts_absent;
    loss.set_borders(borders);
    return run(loss);
  }
};

}  // namespace operators
}  // namespace rarepixel
