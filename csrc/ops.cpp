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

  m.def("components(Tensor mask, int connectivity) -> (Tensor labels, Tensor count)");
  m.def(
      "component_tree(Tensor scores, Tensor zones, Tensor? mask, Tensor needed, Tensor starts, Tensor set_offsets, "
      "Tensor set_members, int connectivity, int min_size) -> (Tensor thresholds, Tensor hits, Tensor false_alarms, "
      "Tensor offsets, int nans)");

  m.def("log_odds(Tensor logits) -> Tensor");
  m.def("log_odds_backward(Tensor upstream, Tensor logits) -> Tensor");
  m.def("channel_labels(Tensor target, Tensor? mask, int? ignore_index, SymInt classes) -> Tensor");
  m.def(
      "channel_labels_cpu(Tensor target, Tensor? mask, int? ignore_index, SymInt classes) -> (Tensor labels, int "
      "invalid)");

  m.def(
      "score_counts(Tensor scores, Tensor target, Tensor? mask, int? ignore_index, Tensor roots, Tensor blocks, Tensor "
      "links) -> (Tensor counts, Tensor invalid)");
  m.def(
      "score_counts_cpu(Tensor scores, Tensor target, Tensor? mask, int? ignore_index, Tensor roots, Tensor blocks, "
      "Tensor links, int first, int last, int step) -> (Tensor counts, int invalid)");
  m.def(
      "score_areas(Tensor scores, Tensor target, Tensor? mask, int? ignore_index) -> (Tensor areas, int positives, int "
      "negatives, int invalid, int nans)");

  m.def("cpu_isa() -> str");
}

namespace {

std::string cpu_isa() { return rarepixel::isa_name(rarepixel::current_isa()); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CompositeExplicitAutograd, m) { m.impl("cpu_isa", TORCH_BOX(&cpu_isa)); }
