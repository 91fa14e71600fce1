// The Unified Focal family's terms as the operators get them.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <vector>

#include "unified_focal.h"

namespace rarepixel {

// Calls run(UnifiedFocal<pixel terms>{}) for pixel terms known only when the program runs.
template <class Run>
auto with_unified_focal(PixelTerms pixel_terms, const Run& run) {
  switch (pixel_terms) {
    case PixelTerms::kNone: return run(UnifiedFocal<PixelTerms::kNone>{});
    case PixelTerms::kPlain: return run(UnifiedFocal<PixelTerms::kPlain>{});
    default: return run(UnifiedFocal<PixelTerms::kFocal>{});
  }
}

// `terms`: six numbers of the foreground, in the order of ClassTerms, six of the background, the constant, and whether
// it is generalized Dice.
template <PixelTerms kPixelTerms>
void set_terms(UnifiedFocal<kPixelTerms>& loss, const std::vector<double>& terms) {
  STD_TORCH_CHECK(terms.size() == 14, "unified_focal: expected 14 terms, got ", terms.size());
  const double* t = terms.data();
  loss.foreground = {t[0], t[1], t[2], t[3], t[4], t[5]};
  loss.background = {t[6], t[7], t[8], t[9], t[10], t[11]};
  loss.constant = t[12];
  loss.generalized = t[13] != 0;
}

}  // namespace rarepixel
