#include "../random_drop.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "launch.h"

namespace rarepixel::cpu {
namespace {

std::tuple<Tensor, Tensor, Tensor, std::int64_t> random_drop(const Tensor& logits,               // [N, C, *]
                                                             const Tensor& target,               // [N, C, *]
                                                             const std::optional<Tensor>& mask,  // [N, C, *], expanded
                                                             std::optional<std::int64_t> ignore_index,
                                                             std::int64_t balance, std::int64_t reduction,
                                                             const std::optional<Tensor>& seed,     // [], int64
                                                             const std::optional<Tensor>& uniform,  // [N, C, *]
                                                             std::int64_t schedule) {
  STD_TORCH_CHECK(seed.has_value() != uniform.has_value(), "random_drop: exactly one of seed and uniform");
  const Balance over = static_cast<Balance>(balance);
  Tensor kept = empty_kept_bits(logits, over);
  ReduceProblem problem;
  problem.kept = static_cast<std::uint64_t*>(kept.mutable_data_ptr());
  problem.uniform = view_of(uniform);
  if (seed.has_value()) problem.seed = *static_cast<const std::uint64_t*>(seed->const_data_ptr());
  Forward out = with_random_drop(static_cast<DropSchedule>(schedule), [&](const auto& loss) {
    const Labels labels = labels_of(target, mask, ignore_index);
    return forward(loss, logits, labels, over, static_cast<Reduction>(reduction), problem);
  });
  return {out.loss, out.table, kept, out.invalid};
}

Tensor random_drop_backward(const Tensor& upstream,  // [] or one value per region
                            const Tensor& logits,    // [N, C, *]
                            const Tensor& target,    // [N, C, *]
                            const Tensor& kept,      // [regions, words]
                            const Tensor& table,     // [regions, columns]
                            std::int64_t balance) {
  MapProblem problem;
  problem.kept = static_cast<const std::uint64_t*>(kept.const_data_ptr());
  // Every schedule has the same gradient: what was dropped is in the kept bits.
  return backward(RandomDrop<DropSchedule::kLog>{}, upstream, logits, labels_of(target, std::nullopt, std::nullopt),
                  static_cast<Balance>(balance), table, problem);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("random_drop_cpu", TORCH_BOX(&random_drop));
  m.impl("random_drop_backward", TORCH_BOX(&random_drop_backward));
}

}  // namespace rarepixel::cpu
