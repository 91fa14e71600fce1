// The Unified Focal family's terms as the operators get them.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "softmax_unified_focal.h"
#include "tensors.h"
#include "unified_focal.h"

namespace rarepixel {

// Calls run(loss) with the two-class loss for pixel terms and labels known only when the program runs.
template <class Run>
auto with_unified_focal(std::int64_t pixel_terms, bool soft_labels, const Run& run) {
  if (soft_labels) return run(SoftUnifiedFocal{});
  switch (static_cast<PixelTerms>(pixel_terms)) {
    case PixelTerms::kNone: return run(UnifiedFocal<PixelTerms::kNone>{});
    case PixelTerms::kPlain: return run(UnifiedFocal<PixelTerms::kPlain>{});
    default: return run(UnifiedFocal<PixelTerms::kFocal>{});
  }
}

// `terms`: six numbers of the foreground, in the order of ClassTerms, six of the background, the constant, and whether
// it is generalized Dice.
template <class Loss>
void set_terms(Loss& loss, const std::vector<double>& terms) {
  STD_TORCH_CHECK(terms.size() == 14, "unified_focal: expected 14 terms, got ", terms.size());
  const double* t = terms.data();
  loss.foreground = {t[0], t[1], t[2], t[3], t[4], t[5]};
  loss.background = {t[6], t[7], t[8], t[9], t[10], t[11]};
  loss.constant = t[12];
  loss.generalized = t[13] != 0;
}

inline SoftmaxUnifiedFocal softmax_unified_focal_of(std::int64_t classes, std::int64_t background,
                                                    const std::optional<Tensor>& class_weights,  // [C], float64
                                                    const std::vector<double>& terms) {
  SoftmaxUnifiedFocal loss;
  set_terms(loss, terms);
  if (!loss.generalized) {
    // Terms are those of two classes: their region parts become a mean over the same kinds of classes.
    const double share = loss.background.region_weight != 0 ? 2.0 / static_cast<double>(classes)
                                                            : 1.0 / static_cast<double>(classes - 1);
    loss.foreground.region_weight *= share;
    loss.background.region_weight *= share;
  }
  loss.classes = static_cast<int>(classes);
  loss.background_class = static_cast<int>(background);
  if (class_weights.has_value()) loss.class_weights = static_cast<const double*>(class_weights->const_data_ptr());
  loss.has_focal = loss.foreground.focal_weight != 0 || loss.background.focal_weight != 0;
  return loss;
}

// How the labels of a loss over a softmax are given; an index map has one channel.
inline ClassLabels class_labels_of(const Tensor& target, bool soft_labels) {
  if (soft_labels) return ClassLabels::kSoft;
  return target.size(1) == 1 ? ClassLabels::kIndexMap : ClassLabels::kOneHot;
}

// An engine's problem over a softmax: `plan` is how the engine cuts the pixels of one channel.
template <class Problem, class Regions>
Problem class_problem_of(const Regions& plan, const Tensor& logits, const Tensor& target,
                         const std::optional<Tensor>& mask, std::optional<std::int64_t> ignore_index, Balance balance,
                         bool soft_labels) {
  Problem problem;
  problem.images = plan;
  problem.images.count = logits.size(0);
  problem.classes = static_cast<int>(logits.size(1));
  problem.label_kind = class_labels_of(target, soft_labels);
  problem.one_region = balance == Balance::kBatch;
  problem.logits = view_of(logits);
  problem.labels = labels_of(target, mask, ignore_index);
  return problem;
}

// The rows of the table of a loss over a softmax, each with so many chunks to add up.
template <class Regions>
Regions rows_of_classes(std::int64_t regions, std::int64_t classes, std::int64_t chunks) {
  Regions rows;
  rows.count = regions * classes;
  rows.of_group = classes;
  rows.chunks = chunks;
  return rows;
}

// A loss over a softmax has a value per image, or one for the batch; and a row per class of each.
inline Tensor empty_softmax_loss(const Tensor& logits, Balance balance, Reduction reduction) {
  const Balance regions = balance == Balance::kBatch ? balance : Balance::kImage;
  std::vector<std::int64_t> shape;
  if (reduction == Reduction::kNone) shape = region_shape(logits, regions);
  return empty_on_device_of(logits, shape, loss_dtype(logits));
}

inline Tensor empty_softmax_table(const Tensor& logits, Balance balance) {
  const std::int64_t regions = balance == Balance::kBatch ? 1 : logits.size(0);
  return empty_on_device_of(logits, {regions * logits.size(1), RegionTable<SoftmaxUnifiedFocal>::kColumns},
                            ScalarType::Double);
}

}  // namespace rarepixel
