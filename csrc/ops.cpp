// Every operator's schema.
//
// <loss>           reduce and settle -> (loss, table of regions, what else backward needs); what autograd sees. On the
//                  CPU, Python implements it: it calls <loss>_cpu and raises on invalid labels
// <loss>_cpu       the same and the number of invalid labels, which the same pass counted
// <loss>_backward  map
// <loss>_settle    settle alone, from sums that were added up over several processes
#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"

// clang-format off
STABLE_TORCH_LIBRARY(rarepixel, m) {
  m.def("random_drop(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, Tensor? seed, Tensor? uniform, int schedule) -> (Tensor, Tensor, Tensor)");
  m.def("random_drop_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, Tensor? seed, Tensor? uniform, int schedule) -> (Tensor, Tensor, Tensor, int)");
  m.def("random_drop_backward(Tensor upstream, Tensor logits, Tensor target, Tensor kept, Tensor table, int balance) -> Tensor");

  m.def("top_k(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, Tensor k, bool is_share) -> (Tensor, Tensor)");
  m.def("top_k_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, Tensor k, bool is_share) -> (Tensor, Tensor, int)");
  m.def("top_k_backward(Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, int balance) -> Tensor");

  m.def("bin_loss(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float key, float positive_weight, float[] borders) -> (Tensor, Tensor)");
  m.def("bin_loss_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float key, float positive_weight, float[] borders) -> (Tensor, Tensor, int)");
  m.def("bin_loss_backward(Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, int balance) -> Tensor");

  m.def("multi_channel_bin(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float key, bool like_caffe, float[] borders) -> (Tensor, Tensor)");
  m.def("multi_channel_bin_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float key, bool like_caffe, float[] borders) -> (Tensor, Tensor, int)");
  m.def("multi_channel_bin_backward(Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, int balance) -> Tensor");

  m.def("segment_thickness(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, Tensor ids, Tensor starts, SymInt segments, float[] pixel_weights, float min_coverage) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("segment_thickness_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, Tensor ids, Tensor starts, SymInt segments, float[] pixel_weights, float min_coverage) -> (Tensor, Tensor, Tensor, Tensor, int)");
  m.def("segment_thickness_backward(Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, int balance, Tensor ids, Tensor starts, Tensor weights) -> Tensor");

  m.def("squared_error(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction) -> (Tensor, Tensor)");
  m.def("squared_error_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction) -> (Tensor, Tensor, int)");
  m.def("squared_error_backward(Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, int balance) -> Tensor");

  m.def("unified_focal(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float[] terms, int pixel_terms, bool soft_labels) -> (Tensor, Tensor)");
  m.def("unified_focal_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float[] terms, int pixel_terms, bool soft_labels) -> (Tensor, Tensor, int)");
  m.def("unified_focal_backward(Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, int balance, int pixel_terms, bool soft_labels) -> Tensor");
  m.def("unified_focal_settle(Tensor logits, Tensor sums, int balance, int reduction, float[] terms) -> (Tensor, Tensor)");

  m.def("softmax_unified_focal(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float[] terms, Tensor? class_weights, int background, bool soft_labels) -> (Tensor, Tensor)");
  m.def("softmax_unified_focal_cpu(Tensor logits, Tensor target, Tensor? mask, int? ignore_index, int balance, int reduction, float[] terms, Tensor? class_weights, int background, bool soft_labels) -> (Tensor, Tensor, int)");
  m.def("softmax_unified_focal_backward(Tensor upstream, Tensor logits, Tensor target, Tensor? mask, int? ignore_index, Tensor table, int balance, float[] terms, int background, bool soft_labels) -> Tensor");
  m.def("softmax_unified_focal_settle(Tensor logits, Tensor sums, int balance, int reduction, float[] terms, Tensor? class_weights, int background) -> (Tensor, Tensor)");

  m.def("thin(Tensor mask) -> Tensor");
  m.def("thickness(Tensor mask, Tensor skeleton, int reach, float beyond) -> Tensor");
  m.def("segment_map(Tensor skeleton, Tensor thickness, Tensor field_of_view, int min_length, int max_length, float margin, bool original) -> (Tensor, Tensor, Tensor, bool)");

  m.def("cpu_isa() -> str");
}
// clang-format on

namespace {

std::string cpu_isa() { return rarepixel::isa_name(rarepixel::current_isa()); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CompositeExplicitAutograd, m) { m.impl("cpu_isa", TORCH_BOX(&cpu_isa)); }
