// Generalized Dice (Sudre et al., DLMIA 2017) of sigmoid channels, with one quotient for all channels of an image.
//
// Every channel has two classes, foreground and background, whose FN, FP and TP are those of unified_focal.h. With v the
// weight of a class (GeneralizedDice, unified_focal_terms.h), 0 where the image has no pixel of it, and sums over both
// classes of all channels
//     L = sum of v (FN + FP) / (sum of v (2 TP + FN + FP) + smooth sum of v)
//     dL/dz = A w (1 - w),  A = dL/d(FN of the class)
// A quotient for each channel, or for the classes of a softmax, is in unified_focal.h and softmax_unified_focal.h.
#pragma once

#include "unified_focal.h"

namespace rarepixel {

// `Base` has the sums and the gradient of a pixel. Regions are channels.
template <class Base>
struct OneQuotient : Base {
  enum Pooled { kAllPixels, kDiceWrong, kDiceAll, kNumPooled };
  static constexpr bool kKnowsChannel = false;

  RAREPIXEL_INLINE void pool(const double* sums, std::int64_t /*channel*/, double* pooled) const {
    GeneralizedDice dice = dice_of(pooled);
    Base::add_classes(dice, sums);
    pooled[kAllPixels] += sums[Base::kPositives] + sums[Base::kNegatives];
    pooled[kDiceWrong] = dice.wrong;
    pooled[kDiceAll] = dice.all;
  }

  // The first channel brings the value, which is that of all.
  RAREPIXEL_INLINE Settled<Base::kNumCoefficients> settle(const double* sums, const double* pooled,
                                                          std::int64_t channel) const {
    const double first = channel == 0 ? 1 : 0;
    if (pooled[kAllPixels] == 0) return {0, first, {}};
    const GeneralizedDice dice = dice_of(pooled);
    const double positives = sums[Base::kPositives], negatives = sums[Base::kNegatives];
    const double fn = sums[Base::kFalseNegatives], fp = sums[Base::kFalsePositives];
    const Overlap overlap = Base::of_classes(dice, sums, 1);
    Settled<Base::kNumCoefficients> settled{first != 0 ? overlap.value : 0, first, {}};
    settled.coefficients[Base::kOverlap] = overlap.by_false_negative;
    settled.coefficients[Base::kNegative + Base::kOverlap] = overlap.by_false_positive;
    settled.coefficients[Base::kOverlapLoss] =
        (dice.share_of(positives, fn, fp) + dice.share_of(negatives, fp, fn)) * overlap.value;
    return settled;
  }

 private:
  RAREPIXEL_INLINE GeneralizedDice dice_of(const double* pooled) const {
    return {this->generalized, this->smooth, pooled[kDiceWrong], pooled[kDiceAll]};
  }
};

namespace operators {

struct generalized_dice : Declaration<OneQuotient<UnifiedFocal<PixelTerms::kNone>>, OneQuotient<SoftUnifiedFocal>> {
  using Options = OptionList<ForwardOption<"weights", std::int64_t>, ForwardOption<"smooth", double>,
                             Option<"soft_labels", bool>, Option<"semimetric", bool>>;
  static constexpr bool kSettlesApart = true;

  static const char* complaint(std::int64_t weights, double /*smooth*/, bool /*soft_labels*/, bool /*semimetric*/) {
    return weights >= 1 && weights <= 3 ? nullptr : "expected weights from 1 to 3";
  }

  template <class Run>
  static auto with_loss(std::int64_t weights, double smooth, bool soft_labels, bool semimetric, const Run& run) {
    const auto with_options = [&](auto loss) {
      loss.generalized = static_cast<DiceWeights>(weights);
      loss.smooth = smooth;
      return run(loss);
    };
    if (!soft_labels) return with_options(OneQuotient<UnifiedFocal<PixelTerms::kNone>>{});
    OneQuotient<SoftUnifiedFocal> loss;
    loss.semimetric = semimetric;
    return with_options(loss);
  }
};

}  // namespace operators
}  // namespace rarepixel
