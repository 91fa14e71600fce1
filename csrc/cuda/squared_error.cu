#include "../squared_error.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "engine.cuh"

namespace rarepixel::cuda {
namespace {

std::tuple<Tensor, Tensor> squared_error(const Tensor& logits,               // [N, C, *]
                                         const Tensor& target,               // [N, C, *]
                                         const std::optional<Tensor>& mask,  // [N, C, *], expanded
                                         std::optional<std::int64_t> ignore_index, std::int64_t balance,
                                         std::int64_t reduction) {
  Forward out = forward(SquaredError{}, logits, labels_of(target, mask, ignore_index), static_cast<Balance>(balance),
                        static_cast<Reduction>(reduction));
  return {out.loss, out.table};
}

Tensor squared_error_backward(const Tensor& upstream,             // [] or one value per region
                              const Tensor& logits,               // [N, C, *]
                              const Tensor& target,               // [N, C, *]
                              const std::optional<Tensor>& mask,  // [N, C, *], expanded
                              std::optional<std::int64_t> ignore_index,
                              const Tensor& table,  // [regions, columns]
                              std::int64_t balance) {
  return backward(SquaredError{}, upstream, logits, labels_of(target, mask, ignore_index),
                  static_cast<Balance>(balance), table);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) {
  m.impl("squared_error", TORCH_BOX(&squared_error));
  m.impl("squared_error_backward", TORCH_BOX(&squared_error_backward));
}

}  // namespace rarepixel::cuda
