#include "../softmax_unified_focal.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "../unified_focal_arguments.h"
#include "class_engine.cuh"

namespace rarepixel::cuda {
namespace {

using Loss = SoftmaxUnifiedFocal;

std::tuple<Tensor, Tensor> softmax_unified_focal(
    const Tensor& logits,               // [N, C, *]
    const Tensor& target,               // [N, 1, *], of soft labels and one-hot [N, C, *]
    const std::optional<Tensor>& mask,  // as target, expanded
    std::optional<std::int64_t> ignore_index, std::int64_t balance, std::int64_t reduction,
    const std::vector<double>& terms, const std::optional<Tensor>& class_weights,  // [C], float64
    std::int64_t background, bool soft_labels) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const auto as = static_cast<Balance>(balance);
  const auto how = static_cast<Reduction>(reduction);
  const Loss loss = softmax_unified_focal_of(logits.size(1), background, class_weights, terms);
  auto problem = class_problem_of<ClassProblem>(plan_regions(logits, Balance::kChannel), logits, target, mask,
                                                ignore_index, as, soft_labels);
  const Regions rows = rows_of_classes<Regions>(problem.regions(), problem.classes, problem.chunks_of_region());
  const Tensor partial_sums =
      empty_on_device_of(logits, {rows.count * rows.chunks, Loss::kNumSums + 1}, ScalarType::Double);
  problem.partial_sums = static_cast<double*>(partial_sums.mutable_data_ptr());
  const cudaStream_t stream = current_stream(logits);
  if (grid_for(problem.images) > 0) {
    with_classes(problem.classes, problem.logits.dtype,
                 [&]<class Tile, class Held, class Logit, class Real>(Tile, Held, Logit, Real) {
                   reduce_classes_kernel<Tile::value, Held::value, Loss, Logit, Real>
                       <<<class_grid(problem, Tile::value), kThreads, 0, stream>>>(loss, problem);
                   STD_CUDA_KERNEL_LAUNCH_CHECK();
                 });
  }
  const Forward out = settle(loss, rows, problem.partial_sums, empty_softmax_table(logits, as),
                             empty_softmax_loss(logits, as, how), how, stream);
  return {out.loss, out.table};
}

// The loss and the table of sums that were added up elsewhere.
std::tuple<Tensor, Tensor> softmax_unified_focal_settle(const Tensor& logits,  // [N, C, *]
                                                        const Tensor& sums,    // [rows, kNumSums + 1], float64
                                                        std::int64_t balance, std::int64_t reduction,
                                                        const std::vector<double>& terms,
                                                        const std::optional<Tensor>& class_weights,  // [C], float64
                                                        std::int64_t background) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const auto as = static_cast<Balance>(balance);
  const auto how = static_cast<Reduction>(reduction);
  const Loss loss = softmax_unified_focal_of(logits.size(1), background, class_weights, terms);
  const Regions rows = rows_of_classes<Regions>(sums.size(0) / loss.classes, loss.classes, 1);
  const Forward out =
      settle(loss, rows, static_cast<const double*>(sums.const_data_ptr()), empty_softmax_table(logits, as),
             empty_softmax_loss(logits, as, how), how, current_stream(logits));
  return {out.loss, out.table};
}

Tensor softmax_unified_focal_backward(const Tensor& upstream,             // [] or one value per region
                                      const Tensor& logits,               // [N, C, *]
                                      const Tensor& target,               // as in forward
                                      const std::optional<Tensor>& mask,  // as target, expanded
                                      std::optional<std::int64_t> ignore_index,
                                      const Tensor& table,  // [rows, columns]
                                      std::int64_t balance, const std::vector<double>& terms, std::int64_t background,
                                      bool soft_labels) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  const Loss loss = softmax_unified_focal_of(logits.size(1), background, std::nullopt, terms);
  Tensor gradient = empty_gradient(logits);
  auto problem = class_problem_of<ClassProblem>(plan_regions(logits, Balance::kChannel), logits, target, mask,
                                                ignore_index, static_cast<Balance>(balance), soft_labels);
  problem.table = static_cast<const double*>(table.const_data_ptr());
  problem.upstream = view_of(upstream);
  problem.upstream_per_group = upstream.dim() > 0;
  problem.gradient = view_of(gradient);
  if (grid_for(problem.images) == 0) return gradient;
  with_classes(problem.classes, problem.logits.dtype,
               [&]<class Tile, class Held, class Logit, class Real>(Tile, Held, Logit, Real) {
                 map_classes_kernel<Tile::value, Held::value, Loss, Logit, Real>
                     <<<class_grid(problem, Tile::value), kThreads, 0, current_stream(logits)>>>(loss, problem);
                 STD_CUDA_KERNEL_LAUNCH_CHECK();
               });
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) {
  m.impl("softmax_unified_focal", TORCH_BOX(&softmax_unified_focal));
  m.impl("softmax_unified_focal_settle", TORCH_BOX(&softmax_unified_focal_settle));
  m.impl("softmax_unified_focal_backward", TORCH_BOX(&softmax_unified_focal_backward));
}

}  // namespace rarepixel::cuda
