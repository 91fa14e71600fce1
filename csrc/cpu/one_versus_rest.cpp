// The classes of a softmax, each against the rest: log-odds, their derivative, and labels of 0 and 1.
#include <torch/csrc/stable/library.h>

#include <atomic>
#include <tuple>

#include "../one_versus_rest_tensors.h"
#include "launch.h"

namespace rarepixel::cpu {
namespace {

OneVersusRestProblem problem_of(const Tensor& tensor, std::int64_t classes) {
  return one_versus_rest_of(tensor, classes, plan_regions(tensor, Balance::kChannel, 1, classes));
}

template <class Run>
void run_in_parallel(const OneVersusRestProblem& problem, const OneVersusRestKernels& kernels, const Run& run) {
  parallel_over_chunks(problem.images, problem.classes, [&](std::int64_t first, std::int64_t last) {
    run(problem, first, last, Scratch(kernels, problem).memory());
  });
}

Tensor log_odds(const Tensor& logits) {  // [N, C, *]
  OneVersusRestProblem problem = problem_of(logits, logits.size(1));
  const Tensor result = empty_log_odds(logits);
  problem.logits = view_of(logits);
  problem.log_odds = view_of(result);
  const OneVersusRestKernels kernels = kernels_for_this_machine<OneVersusRestKernels>();
  run_in_parallel(problem, kernels, kernels.log_odds);
  return result;
}

Tensor log_odds_backward(const Tensor& upstream,  // [N, C, *], float32 or float64
                         const Tensor& logits) {  // [N, C, *]
  OneVersusRestProblem problem = problem_of(logits, logits.size(1));
  const Tensor gradient = empty_gradient(logits);
  set_backward(problem, upstream, logits, gradient);
  const OneVersusRestKernels kernels = kernels_for_this_machine<OneVersusRestKernels>();
  run_in_parallel(problem, kernels, kernels.backward);
  return gradient;
}

// Labels of the channels, [N, C, *], and how many of the target's are invalid.
std::tuple<Tensor, std::int64_t> channel_labels(const Tensor& target,               // [N, 1 or C, *]
                                                const std::optional<Tensor>& mask,  // the target's shape
                                                std::optional<std::int64_t> ignore_index, std::int64_t classes) {
  OneVersusRestProblem problem = problem_of(target, classes);
  Tensor labels = empty_channel_labels(target, classes);
  set_labels(problem, target, mask, ignore_index, labels);
  const OneVersusRestKernels kernels = kernels_for_this_machine<OneVersusRestKernels>();
  std::atomic<std::int64_t> invalid = 0;
  parallel_over_chunks(problem.images, classes,
                       [&](std::int64_t first, std::int64_t last) { invalid += kernels.label(problem, first, last); });
  return {labels, invalid.load()};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("log_odds", TORCH_BOX(&log_odds));
  m.impl("log_odds_backward", TORCH_BOX(&log_odds_backward));
  m.impl("channel_labels_cpu", TORCH_BOX(&channel_labels));
}

}  // namespace rarepixel::cpu
