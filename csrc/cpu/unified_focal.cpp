#include "../unified_focal.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "../unified_focal_arguments.h"
#include "launch.h"

namespace rarepixel::cpu {
namespace {

std::tuple<Tensor, Tensor, std::int64_t> unified_focal(const Tensor& logits,               // [N, C, *]
                                                       const Tensor& target,               // [N, C, *]
                                                       const std::optional<Tensor>& mask,  // [N, C, *], expanded
                                                       std::optional<std::int64_t> ignore_index, std::int64_t balance,
                                                       std::int64_t reduction, const std::vector<double>& terms,
                                                       std::int64_t pixel_terms, bool soft_labels) {
  return with_unified_focal(pixel_terms, soft_labels, [&](auto loss) {
    set_terms(loss, terms);
    const Forward out = forward(loss, logits, labels_of(target, mask, ignore_index), static_cast<Balance>(balance),
                                static_cast<Reduction>(reduction));
    return std::tuple<Tensor, Tensor, std::int64_t>(out.loss, out.table, out.invalid);
  });
}

// The loss and the table of sums that were added up elsewhere.
std::tuple<Tensor, Tensor> unified_focal_settle(const Tensor& logits,  // [N, C, *]
                                                const Tensor& sums,    // [regions, kNumSums + 1], float64
                                                std::int64_t balance, std::int64_t reduction,
                                                const std::vector<double>& terms) {
  SoftUnifiedFocal loss;  // all of them settle in one way
  set_terms(loss, terms);
  const auto as = static_cast<Balance>(balance);
  const auto how = static_cast<Reduction>(reduction);
  Regions regions;
  regions.count = sums.size(0);
  regions.chunks = 1;
  const Forward out =
      settle(loss, regions, static_cast<const double*>(sums.const_data_ptr()),
             empty_table<SoftUnifiedFocal>(logits, as), empty_loss<SoftUnifiedFocal>(logits, as, how), how);
  return {out.loss, out.table};
}

Tensor unified_focal_backward(const Tensor& upstream,             // [] or one value per region
                              const Tensor& logits,               // [N, C, *]
                              const Tensor& target,               // [N, C, *]
                              const std::optional<Tensor>& mask,  // [N, C, *], expanded
                              std::optional<std::int64_t> ignore_index,
                              const Tensor& table,  // [regions, columns]
                              std::int64_t balance, std::int64_t pixel_terms, bool soft_labels) {
  return with_unified_focal(pixel_terms, soft_labels, [&](const auto& loss) {
    return backward(loss, upstream, logits, labels_of(target, mask, ignore_index), static_cast<Balance>(balance),
                    table);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("unified_focal_cpu", TORCH_BOX(&unified_focal));
  m.impl("unified_focal_settle", TORCH_BOX(&unified_focal_settle));
  m.impl("unified_focal_backward", TORCH_BOX(&unified_focal_backward));
}

}  // namespace rarepixel::cpu
