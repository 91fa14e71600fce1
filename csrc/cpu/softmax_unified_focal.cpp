#include "../softmax_unified_focal.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "../unified_focal_arguments.h"
#include "launch.h"

namespace rarepixel::cpu {
namespace {

using Loss = SoftmaxUnifiedFocal;

// What a thread works in: too much for the stacks of some threads.
class Scratch {
 public:
  Scratch(const ClassKernels<Loss>& kernels, const ClassProblem& problem)
      : memory_(std::make_unique_for_overwrite<unsigned char[]>(kernels.scratch_bytes(problem))) {}
  void* memory() const { return memory_.get(); }

 private:
  std::unique_ptr<unsigned char[]> memory_;
};

std::tuple<Tensor, Tensor, std::int64_t> softmax_unified_focal(
    const Tensor& logits,               // [N, C, *]
    const Tensor& target,               // [N, 1, *], of soft labels and one-hot [N, C, *]
    const std::optional<Tensor>& mask,  // as target, expanded
    std::optional<std::int64_t> ignore_index, std::int64_t balance, std::int64_t reduction,
    const std::vector<double>& terms, const std::optional<Tensor>& class_weights,  // [C], float64
    std::int64_t background, bool soft_labels) {
  const auto as = static_cast<Balance>(balance);
  const auto how = static_cast<Reduction>(reduction);
  const Loss loss = softmax_unified_focal_of(logits.size(1), background, class_weights, terms);
  auto problem = class_problem_of<ClassProblem>(plan_regions(logits, Balance::kChannel, 1, logits.size(1)), logits,
                                                target, mask, ignore_index, as, soft_labels);
  const Regions rows = rows_of_classes<Regions>(problem.regions(), problem.classes, problem.chunks_of_region());
  const auto partial_sums = std::make_unique<double[]>(rows.count * rows.chunks * (Loss::kNumSums + 1));
  problem.partial_sums = partial_sums.get();
  const ClassKernels<Loss> kernels = class_kernels_for_this_machine<Loss>();
  parallel_over_chunks(problem.images, [&](std::int64_t first, std::int64_t last) {
    kernels.reduce(loss, problem, first, last, Scratch(kernels, problem).memory());
  });
  const Forward out =
      settle(loss, rows, partial_sums.get(), empty_softmax_table(logits, as), empty_softmax_loss(logits, as, how), how);
  return {out.loss, out.table, out.invalid};
}

// The loss and the table of sums that were added up elsewhere.
std::tuple<Tensor, Tensor> softmax_unified_focal_settle(const Tensor& logits,  // [N, C, *]
                                                        const Tensor& sums,    // [rows, kNumSums + 1], float64
                                                        std::int64_t balance, std::int64_t reduction,
                                                        const std::vector<double>& terms,
                                                        const std::optional<Tensor>& class_weights,  // [C], float64
                                                        std::int64_t background) {
  const auto as = static_cast<Balance>(balance);
  const auto how = static_cast<Reduction>(reduction);
  const Loss loss = softmax_unified_focal_of(logits.size(1), background, class_weights, terms);
  const Regions rows = rows_of_classes<Regions>(sums.size(0) / loss.classes, loss.classes, 1);
  const Forward out = settle(loss, rows, static_cast<const double*>(sums.const_data_ptr()),
                             empty_softmax_table(logits, as), empty_softmax_loss(logits, as, how), how);
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
  const Loss loss = softmax_unified_focal_of(logits.size(1), background, std::nullopt, terms);
  Tensor gradient = empty_gradient(logits);
  auto problem = class_problem_of<ClassProblem>(plan_regions(logits, Balance::kChannel, 1, logits.size(1)), logits,
                                                target, mask, ignore_index, static_cast<Balance>(balance), soft_labels);
  problem.table = static_cast<const double*>(table.const_data_ptr());
  problem.upstream = view_of(upstream);
  problem.upstream_per_group = upstream.dim() > 0;
  problem.gradient = view_of(gradient);
  const ClassKernels<Loss> kernels = class_kernels_for_this_machine<Loss>();
  parallel_over_chunks(problem.images, [&](std::int64_t first, std::int64_t last) {
    kernels.map(loss, problem, first, last, Scratch(kernels, problem).memory());
  });
  return gradient;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("softmax_unified_focal_cpu", TORCH_BOX(&softmax_unified_focal));
  m.impl("softmax_unified_focal_settle", TORCH_BOX(&softmax_unified_focal_settle));
  m.impl("softmax_unified_focal_backward", TORCH_BOX(&softmax_unified_focal_backward));
}

}  // namespace rarepixel::cpu
