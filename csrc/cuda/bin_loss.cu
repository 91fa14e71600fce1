#include "../bin_loss_arguments.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "engine.cuh"

namespace rarepixel::cuda {
namespace {

std::tuple<Tensor, Tensor> bin_loss(const Tensor& logits,               // [N, C, *]
                                    const Tensor& target,               // [N, C, *]
                                    const std::optional<Tensor>& mask,  // [N, C, *], expanded
                                    std::optional<std::int64_t> ignore_index, std::int64_t balance,
                                    std::int64_t reduction, double key, double positive_weight,
                                    const std::vector<double>& borders) {
  return with_bin_loss(key, positive_weight, borders, [&](const auto& loss) {
    Forward out = forward(loss, logits, labels_of(target, mask, ignore_index), static_cast<Balance>(balance),
                          static_cast<Reduction>(reduction));
    return std::tuple(out.loss, out.table);
  });
}

Tensor bin_loss_backward(const Tensor& upstream,             // [] or one value per region
                         const Tensor& logits,               // [N, C, *]
                         const Tensor& target,               // [N, C, *]
                         const std::optional<Tensor>& mask,  // [N, C, *], expanded
                         std::optional<std::int64_t> ignore_index,
                         const Tensor& table,  // [regions, columns]
                         std::int64_t balance) {
  return with_bin_loss_of(table, [&](const auto& loss) {
    return backward(loss, upstream, logits, labels_of(target, mask, ignore_index), static_cast<Balance>(balance),
                    table);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) {
  m.impl("bin_loss", TORCH_BOX(&bin_loss));
  m.impl("bin_loss_backward", TORCH_BOX(&bin_loss_backward));
}

}  // namespace rarepixel::cuda
