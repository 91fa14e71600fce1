// From torch tensors to problem.h, for both engines. Callers have validated shapes and types (pyext/rarepixel).
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "problem.h"
#include "region.h"

namespace rarepixel {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline DType dtype_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Half: return DType::kFloat16;
    case ScalarType::BFloat16: return DType::kBFloat16;
    case ScalarType::Float: return DType::kFloat32;
    case ScalarType::Double: return DType::kFloat64;
    case ScalarType::Bool:
    case ScalarType::Byte: return DType::kByte;
    case ScalarType::Char: return DType::kInt8;
    case ScalarType::Short: return DType::kInt16;
    case ScalarType::Int: return DType::kInt32;
    case ScalarType::Long: return DType::kInt64;
    default: STD_TORCH_CHECK(false, "rarepixel: unsupported dtype ", static_cast<int>(tensor.scalar_type()));
  }
}

inline TensorView view_of(const Tensor& tensor) {
  STD_TORCH_CHECK(tensor.dim() <= kMaxRank, "rarepixel: at most ", kMaxRank, " dimensions, got ", tensor.dim());
  TensorView view;
  view.data = const_cast<void*>(tensor.const_data_ptr());
  view.dtype = dtype_of(tensor);
  for (std::int64_t d = 0; d < tensor.dim(); ++d) {
    const std::int64_t size = tensor.size(d), stride = tensor.stride(d);
    if (size == 1) continue;
    if (view.rank > 0 && view.stride[view.rank - 1] == size * stride) {
      view.size[view.rank - 1] *= size;
      view.stride[view.rank - 1] = stride;
    } else {
      view.size[view.rank] = size;
      view.stride[view.rank] = stride;
      ++view.rank;
    }
  }
  if (view.rank == 0) {  // a single pixel
    view.rank = 1;
    view.size[0] = 1;
    view.stride[0] = 1;
  }
  return view;
}

inline TensorView view_of(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? view_of(*tensor) : TensorView{};
}

inline Labels labels_of(const Tensor& target, const std::optional<Tensor>& mask,
                        std::optional<std::int64_t> ignore_index) {
  Labels labels;
  labels.target = view_of(target);
  labels.mask = view_of(mask);
  labels.has_ignore_index = ignore_index.has_value();
  labels.ignore_index = ignore_index.value_or(0);
  return labels;
}

inline Segments segments_of(const Tensor& ids,        // [N, H, W], int32, contiguous
                            const Tensor& starts,     // [N + 1], int64, contiguous
                            const Tensor& weights) {  // [segments + 1], the loss's dtype
  return {view_of(ids), static_cast<const std::int64_t*>(starts.const_data_ptr()), weights.const_data_ptr()};
}

// What the operators of every loss get.
struct Inputs {
  const Tensor& logits;  // [N, C, *]
  const Tensor& target;  // [N, C, *], or of an index map over a softmax [N, 1, *]
  Labels labels;         // the target's, with mask and ignore_index
  Balance balance;
};

// The shape of one value per region: (N, C), (N,) or ().
inline std::vector<std::int64_t> region_shape(const Tensor& logits,  // [N, C, *]
                                              Balance balance) {
  switch (balance) {
    case Balance::kChannel: return {logits.size(0), logits.size(1)};
    case Balance::kImage: return {logits.size(0)};
    default: return {};
  }
}

inline std::int64_t count_regions(const Tensor& logits, Balance balance) {
  std::int64_t count = 1;
  for (const std::int64_t size : region_shape(logits, balance)) count *= size;
  return count;
}

inline std::int64_t pixels_of_a_region(const Tensor& logits, Balance balance) {
  std::int64_t pixels = 1;
  for (std::int64_t d = 2 - static_cast<int>(balance); d < logits.dim(); ++d) pixels *= logits.size(d);
  return pixels;
}

// How an engine cuts a region: chunks are a multiple of its tile, no smaller than is worth a thread or a block, and not
// too many. They depend on the region's size alone: sums are added in one order, whatever the device and the batch.
struct ChunkRule {
  std::int64_t tile, smallest, most;
};

inline Regions cut_regions(const Tensor& logits, Balance balance, std::int64_t of_group, const ChunkRule& rule) {
  Regions regions;
  regions.count = count_regions(logits, balance);
  regions.of_group = of_group;
  regions.pixels = pixels_of_a_region(logits, balance);
  const std::int64_t even_share = (regions.pixels + rule.most - 1) / rule.most;
  regions.chunk_pixels = std::max(rule.smallest, (even_share + rule.tile - 1) / rule.tile * rule.tile);
  regions.chunks = (regions.pixels + regions.chunk_pixels - 1) / regions.chunk_pixels;
  return regions;
}

inline ScalarType loss_dtype(const Tensor& logits) {
  return logits.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// torch::stable::empty without its detour through the dispatcher, which costs a microsecond a tensor.
inline Tensor empty_on_device_of(const Tensor& like, const std::vector<std::int64_t>& shape, ScalarType dtype) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= std::max<std::int64_t>(shape[d], 1);
  }
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<std::int64_t>(shape.size()), shape.data(), strides.data(),
      torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(dtype)),
      torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(like.device().type())),
      like.get_device_index(), &handle));
  return Tensor(handle);
}

// A gradient's memory: the logits' dtype, shape and strides.
inline Tensor empty_gradient(const Tensor& logits) {
  if (!logits.is_contiguous()) return torch::stable::empty_like(logits);
  const auto sizes = logits.sizes();
  return empty_on_device_of(logits, {sizes.begin(), sizes.end()}, logits.scalar_type());
}

// How many regions share a value (region.h). A loss that pools channels has the channels as regions.
template <class Loss>
std::int64_t regions_of_group(const Tensor& logits) {  // [N, C, *]
  return Loss::kNumPooled > 0 ? std::max<std::int64_t>(1, logits.size(1)) : 1;
}

// Of what there is one value: the channels of an image have one together where they are pooled.
template <class Loss>
Balance balance_of_values(Balance balance) {
  return Loss::kNumPooled > 0 && balance == Balance::kChannel ? Balance::kImage : balance;
}

// The loss's memory: one value, or with kNone one per group.
template <class Loss>
Tensor empty_loss(const Tensor& logits, Balance balance, Reduction reduction) {
  std::vector<std::int64_t> shape;
  if (reduction == Reduction::kNone) shape = region_shape(logits, balance_of_values<Loss>(balance));
  return empty_on_device_of(logits, shape, loss_dtype(logits));
}

// Memory for one row per region, or per channel of what pools its channels.
template <class Loss>
Tensor empty_table(const Tensor& logits, Balance balance) {
  const std::int64_t groups = count_regions(logits, balance_of_values<Loss>(balance));
  return empty_on_device_of(logits, {groups * regions_of_group<Loss>(logits), RegionTable<Loss>::kColumns},
                            ScalarType::Double);
}

// One bit a pixel, each region's bits from a word of their own on.
inline Tensor empty_kept_bits(const Tensor& logits, Balance balance) {
  const std::int64_t words = (pixels_of_a_region(logits, balance) + 63) / 64;
  return empty_on_device_of(logits, {count_regions(logits, balance), words}, ScalarType::Long);
}

// ---- Problems ----

// Regions that are their sums alone, which were added up elsewhere: a row each of `sums`.
inline Regions rows_of(const Tensor& sums, std::int64_t of_group) {
  Regions rows;
  rows.count = sums.size(0);
  rows.chunks = 1;
  rows.of_group = of_group;
  return rows;
}

inline void set_inputs(RegionProblem& problem, const Inputs& inputs, const Regions& regions) {
  problem.regions = regions;
  problem.logits = view_of(inputs.logits);
  problem.labels = inputs.labels;
}

// `plan` is how the engine cuts the pixels of one channel of each image, `given` holds the weights of pixels.
template <class Loss>
ClassProblem class_problem_of([[maybe_unused]] const Loss& loss, const RegionProblem& given, const Inputs& inputs,
                              const Regions& plan) {
  ClassProblem problem;
  bool soft = Loss::kSoftLabels;
  if constexpr (Loss::kSoftLabels) soft = !loss.hard_labels;
  problem.images = plan;
  problem.images.count = inputs.logits.size(0);
  problem.classes = static_cast<int>(inputs.logits.size(1));
  problem.label_kind = soft                         ? ClassLabels::kSoft
                       : inputs.target.size(1) == 1 ? ClassLabels::kIndexMap
                                                    : ClassLabels::kOneHot;
  problem.weights = given.weights;
  problem.one_region = inputs.balance == Balance::kBatch;
  problem.logits = view_of(inputs.logits);
  problem.labels = inputs.labels;
  return problem;
}

// What map needs besides.
template <class Problem>
void set_gradient(Problem& problem, const Tensor& upstream,  // [] or one value per group
                  const Tensor& table, const Tensor& gradient) {
  problem.table = static_cast<const double*>(table.const_data_ptr());
  problem.upstream = view_of(upstream);
  problem.upstream_per_group = upstream.dim() > 0;
  problem.gradient = view_of(gradient);
}

}  // namespace rarepixel
