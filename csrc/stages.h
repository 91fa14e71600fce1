// What some losses need before reduce (region.h says which): what their operators take for it, return and hand on to
// backward. The work itself is the engines'.
//
// A stage has
//   Arguments   what forward takes after the arguments that all losses share
//   Results     what forward returns behind loss and table
//   Backward    what backward takes of Arguments and Results, by their names
//   prepare(problem, inputs, table, argument ...)   forward; returns how many pixels have an input that means nothing
//   results()                                       after prepare
//   prepare(problem, backward's ...)                backward
#pragma once

#include <optional>
#include <tuple>

#include "declaration.h"
#include "tensors.h"
#include "threshold.h"

namespace rarepixel {

struct NoStage {
  using Arguments = OptionList<>;
  using Results = OptionList<>;
  using Backward = OptionList<>;

  template <class Engine, class Loss>
  std::int64_t prepare(ReduceProblem& /*problem*/, const Inputs& /*inputs*/, const Tensor& /*table*/) {
    return 0;
  }
  std::tuple<> results() const { return {}; }
  static void prepare(MapProblem& /*problem*/) {}
};

// Pixels are dropped at random, by given numbers or by those of a seed; what is kept is one bit a pixel, each region's
// from a word of its own on.
struct DropStage {
  using Arguments = OptionList<Option<"seed", std::optional<Tensor>>,      // [], int64
                               Option<"uniform", std::optional<Tensor>>>;  // [N, C, *], float32 or float64
  using Results = OptionList<Option<"kept", Tensor>>;                      // [regions, words], int64
  using Backward = Results;

  template <class Engine, class Loss>
  std::int64_t prepare(ReduceProblem& problem, const Inputs& inputs, const Tensor& /*table*/,
                       const std::optional<Tensor>& seed, const std::optional<Tensor>& uniform) {
    STD_TORCH_CHECK(seed.has_value() != uniform.has_value(), "rarepixel: expected exactly one of seed and uniform");
    kept_ = empty_kept_bits(inputs.logits, inputs.balance);
    problem.kept = static_cast<std::uint64_t*>(kept_->mutable_data_ptr());
    problem.uniform = view_of(uniform);
    if (seed.has_value()) problem.seed = static_cast<const std::uint64_t*>(seed->const_data_ptr());
    return 0;
  }
  std::tuple<Tensor> results() const { return {*kept_}; }
  static void prepare(MapProblem& problem, const Tensor& kept) {
    problem.kept = const_cast<std::uint64_t*>(static_cast<const std::uint64_t*>(kept.const_data_ptr()));  // not written
  }

 private:
  std::optional<Tensor> kept_;
};

// The k largest negatives of every region are found, a number or a share of them.
struct ThresholdStage {
  using Arguments = OptionList<Option<"k", Tensor>,  // [], float64
                               Option<"is_share", bool>>;
  using Results = OptionList<>;
  using Backward = OptionList<>;

  template <class Engine, class Loss>
  std::int64_t prepare(ReduceProblem& /*problem*/, const Inputs& inputs, const Tensor& table, const Tensor& k,
                       bool is_share) {
    using Table = RegionTable<Loss>;
    double* const rows = static_cast<double*>(table.mutable_data_ptr());
    Engine::find_thresholds(inputs, k, is_share, rows + Table::kFound, Table::kColumns);
    return 0;
  }
  std::tuple<> results() const { return {}; }
  static void prepare(MapProblem& /*problem*/) {}
};

// The predicted thickness of every segment is compared with the annotated one, which gives its weight.
struct SegmentStage {
  using Arguments = OptionList<Option<"ids", Tensor>,     // [N, H, W], int32, contiguous
                               Option<"starts", Tensor>,  // [N + 1], int64, contiguous
                               Option<"segments", Size>, Option<"min_coverage", double>>;
  using Results = OptionList<Option<"weights", Tensor>,     // [segments + 1], the loss's dtype; first that of none
                             Option<"thickness", Tensor>>;  // [segments, 2], annotated and predicted
  using Backward = OptionList<Option<"ids", Tensor>, Option<"starts", Tensor>, Option<"weights", Tensor>>;

  template <class Engine, class Loss>
  std::int64_t prepare(ReduceProblem& problem, const Inputs& inputs, const Tensor& /*table*/, const Tensor& ids,
                       const Tensor& starts, std::int64_t segments, double min_coverage) {
    weights_ = empty_on_device_of(inputs.logits, {segments + 1}, loss_dtype(inputs.logits));
    thickness_ = empty_on_device_of(inputs.logits, {segments, 2}, loss_dtype(inputs.logits));
    problem.segments = segments_of(ids, starts, *weights_);
    return Engine::weigh_segments(inputs, problem.segments, segments, min_coverage, *weights_, *thickness_);
  }
  std::tuple<Tensor, Tensor> results() const { return {*weights_, *thickness_}; }
  static void prepare(MapProblem& problem, const Tensor& ids, const Tensor& starts, const Tensor& weights) {
    problem.segments = segments_of(ids, starts, weights);
  }

 private:
  std::optional<Tensor> weights_, thickness_;
};

// The stage of a loss.
template <class Loss>
auto stage_of() {
  if constexpr (Loss::kDropsPixels) return DropStage{};
  else if constexpr (Loss::kNumFound > 0) return ThresholdStage{};
  else if constexpr (Loss::kWeighsSegments) return SegmentStage{};
  else return NoStage{};
}

}  // namespace rarepixel
