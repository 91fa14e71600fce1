#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../bin_loss_arguments.h"
#include "launch.h"

namespace rarepixel::cpu {
namespace {

std::tuple<Tensor, Tensor, std::int64_t> multi_channel_bin(const Tensor& logits,               // [N, C, *]
                                                           const Tensor& target,               // [N, C, *], expanded
                                                           const std::optional<Tensor>& mask,  // [N, C, *], expanded
                                                           std::optional<std::int64_t> ignore_index,
                                                           std::int64_t balance, std::int64_t reduction, double key,
                                                           bool like_caffe, const std::vector<double>& borders) {
  const auto loss = multi_channel_bin_of(key, like_caffe, borders);
  Labels labels = index_map_of(target, mask, ignore_index);
  labels.any_index = like_caffe;
  Forward out = forward(loss, logits, labels, static_cast<Balance>(balance), static_cast<Reduction>(reduction));
  return {out.loss, out.table, out.invalid};
}

Tensor multi_channel_bin_backward(const Tensor& upstream,             // [] or one value per image
                                  const Tensor& logits,               // [N, C, *]
                                  const Tensor& target,               // [N, C, *], expanded
                                  const std::optional<Tensor>& mask,  // [N, C, *], expanded
                                  std::optional<std::int64_t> ignore_index,
                                  const Tensor& table,  // [regions, columns]
                                  std::int64_t balance) {
  return backward(MultiChannelBin<5>{}, upstream, logits, index_map_of(target, mask, ignore_index),
                  static_cast<Balance>(balance), table);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("multi_channel_bin_cpu", TORCH_BOX(&multi_channel_bin));
  m.impl("multi_channel_bin_backward", TORCH_BOX(&multi_channel_bin_backward));
}

}  // namespace rarepixel::cpu
