// Sigmoid random-drop cross-entropy (Guo et al., ICANN 2019).
//
// With p = sigmoid(x) and s = softplus(x) = -log(1 - p), a negative (label 0) is dropped when u < d(p), u uniform:
//     linear   d = 1 - p            = exp(-s)
//     square   d = (1 - p)^2        = exp(-2 s)
//     log      d = 1 + log10(1 - p) = 1 - s / ln 10      (below 0: never)
// N+ positives and N- kept negatives give the class weights and the loss
//     w+ = N- / (N+ + N-)    w- = N+ / (N+ + N-)
//     L  = w+ * sum over positives of softplus(-x)  +  w- * sum over kept negatives of softplus(x)
// whose weights and drops are constants to the gradient:
//     dL/dx = w+ * (p - 1) on positives,  w- * p on kept negatives,  0 on dropped ones.
// With z = -x on positives and x on negatives both classes read alike: softplus(z), and -+sigmoid(z).
#pragma once

#include "../class_balanced.h"
#include "../declaration.h"

namespace rarepixel {

enum class DropSchedule : int { kLinear = 0, kSquare = 1, kLog = 2 };

template <DropSchedule kSchedule>
struct RandomDrop : ClassBalanced {
  static constexpr bool kDropsPixels = true;

  template <class V>
  RAREPIXEL_INLINE MaskOf<V> accumulate(const Pixel<V>& pixel, V uniform, V (&sums)[kNumSums]) const {
    const V z = negated_margin(pixel);
    const V e = exp_negative(absolute(z));
    const V loss = softplus(z, e);
    const MaskOf<V> kept = pixel.counts & (pixel.positive | !dropped(uniform, z, e, loss));
    add(pixel, kept, loss, sums);
    return kept;
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, const V (&coefficients)[kNumCoefficients]) const {
    return weighted(pixel, sigmoid(negated_margin(pixel)), coefficients);
  }

 private:
  // u < d(p), for the logit z of a negative, e = exp(-|z|) and s = softplus(z): the portable decision, of the same bits
  // everywhere (math.h). linear and square compare u (1 + e)^k < min(1, exp(-z))^k, without a division; the right-hand
  // side is kept above 0, as d is for every finite logit, so that u = 0 drops. A comparison with NaN fails: a NaN logit
  // is kept, and seen in the loss.
  template <class V>
  RAREPIXEL_INLINE MaskOf<V> dropped(V u, V z, V e, V s) const {
    using C = MathConstants<ScalarOf<V>>;
    if constexpr (kSchedule == DropSchedule::kLog) return u < fma(s, V(-C::kLog10E), V(1));
    const V one_plus_e = V(1) + e;
    const V numerator = select(z < V(0), V(1), e);
    if constexpr (kSchedule == DropSchedule::kLinear) return u * one_plus_e < numerator;
    return u * (one_plus_e * one_plus_e) < at_least(V(C::kSmallestNormal), numerator * numerator);
  }
};

namespace operators {

struct random_drop : Declaration<RandomDrop<DropSchedule::kLinear>, RandomDrop<DropSchedule::kSquare>,
                                 RandomDrop<DropSchedule::kLog>> {
  using Options = OptionList<ForwardOption<"schedule", std::int64_t>, ForwardOption<"counts_absent", bool>>;

  template <class Run>
  static auto with_loss(std::int64_t schedule, bool counts_absent, const Run& run) {
    const auto with_option = [&](auto loss) {
      loss.counts_absent = counts_absent;
      return run(loss);
    };
    switch (static_cast<DropSchedule>(schedule)) {
      case DropSchedule::kLinear: return with_option(RandomDrop<DropSchedule::kLinear>{});
      case DropSchedule::kSquare: return with_option(RandomDrop<DropSchedule::kSquare>{});
      default: return with_option(RandomDrop<DropSchedule::kLog>{});
    }
  }

  // All have the same gradient: what was dropped is in the kept bits.
  template <class Run>
  static auto with_gradient(const Run& run) {
    return run(RandomDrop<DropSchedule::kLog>{});
  }
};

}  // namespace operators
}  // namespace rarepixel
