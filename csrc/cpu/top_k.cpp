#include "../top_k.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "launch.h"
#include "select_launch.h"

namespace rarepixel::cpu {
namespace {

std::tuple<Tensor, Tensor, std::int64_t> top_k(const Tensor& logits,               // [N, C, *]
                                               const Tensor& target,               // [N, C, *]
                                               const std::optional<Tensor>& mask,  // [N, C, *], expanded
                                               std::optional<std::int64_t> ignore_index, std::int64_t balance,
                                               std::int64_t reduction,
                                               const Tensor& k,  // [], float64
                                               bool is_share) {
  const Balance over = static_cast<Balance>(balance);
  const Labels labels = labels_of(target, mask, ignore_index);
  const Tensor table = empty_table<TopK>(logits, over);
  const double wanted = *static_cast<const double*>(k.const_data_ptr());
  double* rows = static_cast<double*>(table.mutable_data_ptr());
  select_largest(logits, labels, over, wanted, is_share, [rows](std::int64_t region, const Selection& selection) {
    selection.store(rows + region * RegionTable<TopK>::kColumns + RegionTable<TopK>::kSelected);
  });
  Forward out = forward(TopK{}, logits, labels, over, static_cast<Reduction>(reduction), table);
  return {out.loss, out.table, out.invalid};
}

Tensor top_k_backward(const Tensor& upstream,             // [] or one value per region
                      const Tensor& logits,               // [N, C, *]
                      const Tensor& target,               // [N, C, *]
                      const std::optional<Tensor>& mask,  // [N, C, *], expanded
                      std::optional<std::int64_t> ignore_index,
                      const Tensor& table,  // [regions, columns]
                      std::int64_t balance) {
  return backward(TopK{}, upstream, logits, labels_of(target, mask, ignore_index), static_cast<Balance>(balance),
                  table);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("top_k_cpu", TORCH_BOX(&top_k));
  m.impl("top_k_backward", TORCH_BOX(&top_k_backward));
}

}  // namespace rarepixel::cpu
