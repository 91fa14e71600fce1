// From torch tensors to one_versus_rest.h, for both engines. Callers have validated shapes and types (pyext/rarepixel).
#pragma once

#include <optional>

#include "one_versus_rest.h"
#include "tensors.h"

namespace rarepixel {

// `plan` is how the engine cuts the pixels of one channel of each image.
inline OneVersusRestProblem one_versus_rest_of(const Tensor& tensor,  // [N, any, *]
                                               std::int64_t classes, const Regions& plan) {
  STD_TORCH_CHECK(classes >= 2 && classes <= kMaxClasses, "rarepixel: expected 2 to ", kMaxClasses, " classes, got ",
                  classes);
  OneVersusRestProblem problem;
  problem.images = plan;
  problem.images.count = tensor.size(0);
  problem.classes = static_cast<int>(classes);
  return problem;
}

// Memory for the log-odds of logits, contiguous, in the dtype that losses are computed in.
inline Tensor empty_log_odds(const Tensor& logits) {
  const auto sizes = logits.sizes();
  return empty_on_device_of(logits, {sizes.begin(), sizes.end()}, loss_dtype(logits));
}

inline void set_backward(OneVersusRestProblem& problem, const Tensor& upstream, const Tensor& logits,
                         const Tensor& gradient) {
  STD_TORCH_CHECK(upstream.numel() == logits.numel() && upstream.scalar_type() == loss_dtype(logits),
                  "rarepixel: upstream: expected the shape and dtype of the log-odds");
  problem.logits = view_of(logits);
  problem.upstream = view_of(upstream);
  problem.gradient = view_of(gradient);
}

inline Tensor empty_channel_labels(const Tensor& target,  // [N, 1 or classes, *]
                                   std::int64_t classes) {
  const auto sizes = target.sizes();
  std::vector<std::int64_t> shape(sizes.begin(), sizes.end());
  STD_TORCH_CHECK(shape[1] == 1 || shape[1] == classes, "rarepixel: target: expected 1 or ", classes, " channels, got ",
                  shape[1]);
  shape[1] = classes;
  return empty_on_device_of(target, shape, ScalarType::Byte);
}

inline void set_labels(OneVersusRestProblem& problem, const Tensor& target, const std::optional<Tensor>& mask,
                       std::optional<std::int64_t> ignore_index, Tensor& channel_labels) {
  problem.label_kind = target.size(1) == 1 ? ClassLabels::kIndexMap : ClassLabels::kOneHot;
  problem.labels = labels_of(target, mask, ignore_index);
  problem.channel_labels = static_cast<std::uint8_t*>(channel_labels.mutable_data_ptr());
}

}  // namespace rarepixel
