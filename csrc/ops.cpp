// The library and the operators that belong to no loss. Those of the losses are made by operators.h.
#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"

STABLE_TORCH_LIBRARY(rarepixel, m) {
  m.def("thin(Tensor mask) -> Tensor");
  m.def("thickness(Tensor mask, Tensor skeleton, int reach, float beyond) -> Tensor");
  m.def(
      "segment_map(Tensor skeleton, Tensor thickness, Tensor field_of_view, int min_length, int max_length, float "
      "margin, bool original) -> (Tensor, Tensor, Tensor, bool)");

  m.def("log_odds(Tensor logits) -> Tensor");
  m.def("log_odds_backward(Tensor upstream, Tensor logits) -> Tensor");
  m.def("channel_labels(Tensor target, Tensor? mask, int? ignore_index, SymInt classes) -> Tensor");
  m.def(
      "channel_labels_cpu(Tensor target, Tensor? mask, int? ignore_index, SymInt classes) -> (Tensor labels, int "
      "invalid)");

  m.def("cpu_isa() -> str");
}

namespace {

std::string cpu_isa() { return rarepixel::isa_name(rarepixel::current_isa()); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CompositeExplicitAutograd, m) { m.impl("cpu_isa", TORCH_BOX(&cpu_isa)); }
