// Counting by score (../score_counts.h) on the GPU. Whole numbers are added: their sums do not depend on the order.
#include "../score_counts.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "launch.cuh"

namespace rarepixel::cuda {
namespace {

using Count = unsigned long long;

// Of a score of 16 bits: what its bits are as a number.
template <class Score>
__device__ std::uint32_t node_of_score(const ScoreNodes& nodes, Score score) {
  if constexpr (sizeof(Score) == 2) return score.bits;
  else return node_of<Score>(nodes, key_of(score));
}

// The lanes of a warp whose pixels are counted in the same place add together: scores crowd.
template <bool kWide, class Score>
__global__ void __launch_bounds__(kThreads)
    count_scores_kernel(const __grid_constant__ RegionProblem problem, const __grid_constant__ LabelCodes codes,
                        ScoreNodes nodes, Count* counts, Count* invalid) {
  const Chunk chunk(problem.regions);
  int invalid_labels = 0;
  for (std::int64_t tile = chunk.begin; tile < chunk.end; tile += kTile) {
    const std::int64_t at = tile + threadIdx.x * kOctet, left = chunk.end - at;
    const int count = static_cast<int>(max(std::int64_t(0), min(left, std::int64_t(kOctet))));
    OctetBits<kWide> bits;
    Elements<Score> scores;
    if (count > 0) {
      bits = OctetBits<kWide>(problem, codes, at, count);
      scores = load_octet<kWide, Score>(problem.logits, at, count);
    }
    invalid_labels += bits.invalid;
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      const bool counted = (bits.counts >> i & 1u) != 0;
      const unsigned int all = __ballot_sync(kWholeWarp, counted);
      if (counted) {
        const std::uint32_t negative = ~bits.positive >> i & 1u;
        const std::uint32_t place = 2 * node_of_score(nodes, scores[i]) + negative;
        const unsigned int same = __match_any_sync(all, place);
        const int lane = threadIdx.x % kWarp;
        if (lane == __ffs(static_cast<int>(same)) - 1) atomicAdd(counts + place, static_cast<Count>(__popc(same)));
      }
    }
  }
  if (invalid_labels > 0) atomicAdd(invalid, static_cast<Count>(invalid_labels));
}

// How many positives and negatives each node has, [nodes, 2], and how many labels are neither, [].
std::tuple<Tensor, Tensor> score_counts(const Tensor& scores,               // [*]
                                        const Tensor& target,               // the same shape
                                        const std::optional<Tensor>& mask,  // the same shape, bool or uint8
                                        std::optional<std::int64_t> ignore_index,
                                        const Tensor& roots,    // [kRoots], int64; empty for 16 bits
                                        const Tensor& blocks,   // [*], int64
                                        const Tensor& links) {  // [nodes], int32
  const torch::stable::accelerator::DeviceGuard guard(scores.get_device_index());
  const cudaStream_t stream = current_stream(scores);
  const bool half = scores.scalar_type() == ScalarType::Half || scores.scalar_type() == ScalarType::BFloat16;
  ScoreNodes nodes;
  nodes.count = half ? kRoots : links.numel();
  if (!half) {
    nodes.roots = static_cast<const Division*>(roots.const_data_ptr());
    nodes.blocks = static_cast<const Division*>(blocks.const_data_ptr());
    nodes.links = static_cast<const std::int32_t*>(links.const_data_ptr());
  }
  const Tensor counts = empty_on_device_of(scores, {nodes.count, 2}, ScalarType::Long);
  const Tensor invalid = empty_on_device_of(scores, {}, ScalarType::Long);
  auto* const to = static_cast<Count*>(counts.mutable_data_ptr());
  auto* const wrong = static_cast<Count*>(invalid.mutable_data_ptr());
  STD_CUDA_CHECK(cudaMemsetAsync(to, 0, sizeof(Count) * 2 * nodes.count, stream));
  STD_CUDA_CHECK(cudaMemsetAsync(wrong, 0, sizeof(Count), stream));
  if (scores.numel() == 0) return {counts, invalid};

  RegionProblem problem;
  problem.regions = plan_regions(scores, Balance::kBatch, 1);
  problem.logits = view_of(scores);
  problem.labels = labels_of(target, mask, ignore_index);
  const bool wide = lies_in_quads(problem, {});
  with_types(wide, problem.logits.dtype, [&]<class Wide, class Score, class Real>(Wide, Score, Real) {
    count_scores_kernel<Wide::value, Score>
        <<<grid_for(problem.regions), kThreads, 0, stream>>>(problem, LabelCodes(problem.labels, 0), nodes, to, wrong);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {counts, invalid};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) { m.impl("score_counts", TORCH_BOX(&score_counts)); }

}  // namespace rarepixel::cuda
