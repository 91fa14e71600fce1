// What tests say to the emulation and ask of it, as operators; and the schemas that no loss makes.
#include <torch/csrc/stable/library.h>

#include "scheduler.h"

namespace {

void configure(std::int64_t seed, std::int64_t order, bool strict) {
  emulation::configure(static_cast<std::uint64_t>(seed), static_cast<emulation::Order>(order), strict);
}

std::string take_launches() { return emulation::take_launches(); }

}  // namespace

STABLE_TORCH_LIBRARY(rarepixel_emulated, m) {
  m.def("configure(int seed, int order, bool strict) -> ()");
  m.def("take_launches() -> str");
  m.def("thin(Tensor mask) -> Tensor");
  m.def("components(Tensor mask, int connectivity) -> (Tensor labels, Tensor count)");
  m.def("log_odds(Tensor logits) -> Tensor");
  m.def("log_odds_backward(Tensor upstream, Tensor logits) -> Tensor");
  m.def("channel_labels(Tensor target, Tensor? mask, int? ignore_index, SymInt classes) -> Tensor");
  m.def(
      "score_counts(Tensor scores, Tensor target, Tensor? mask, int? ignore_index, Tensor roots, Tensor blocks, Tensor "
      "links) -> (Tensor counts, Tensor invalid)");
}

STABLE_TORCH_LIBRARY_IMPL(rarepixel_emulated, CompositeExplicitAutograd, m) {
  m.impl("configure", TORCH_BOX(&configure));
  m.impl("take_launches", TORCH_BOX(&take_launches));
}
