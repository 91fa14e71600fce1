// The CUDA engine: runs any loss over regions of pixels (region.h says what a loss is), tensors in, tensors out.
//
// Forward is two launches: reduce_kernel leaves each block's sums, settle_kernel adds them and settles the regions.
// Backward is one: map_kernel. Sums are float in a thread, double from there on, and added in one order always; there
// are no atomics, no synchronisation with the host, and nothing that a CUDA graph could not replay.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <optional>
#include <type_traits>

#include "../tensors.h"
#include "groups.cuh"

namespace rarepixel::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 256;
inline constexpr int kTile = kThreads * kGroup;  // pixels that a block works on at a time
inline constexpr int kSettleThreads = 1024;

// Regions are runs of `pixels` pixels, cut into chunks of one block each. Chunks depend on a region's size alone.
struct Regions {
  std::int64_t count = 0;
  std::int64_t pixels = 0;
  std::int64_t chunk_pixels = 0;  // a multiple of kTile
  std::int64_t chunks = 0;        // per region
  std::int64_t of_group = 1;      // how many of them share one value (region.h)

  // Words of kept bits a region has: it starts with a word of its own.
  __host__ __device__ std::int64_t kept_words() const { return (pixels + 63) / 64; }
};

struct Problem {
  Regions regions;
  TensorView logits;
  Labels labels;
  Segments segments;  // for losses that weigh segments
  std::uint8_t* kept = nullptr;
};

struct ReduceProblem : Problem {
  TensorView uniform;                   // absent: the numbers of *seed
  const std::uint64_t* seed = nullptr;  // on the device: a graph may change it between replays
  const double* table = nullptr;        // [regions, RegionTable<Loss>::kColumns], for losses with selected numbers
  double* partial_sums = nullptr;       // [regions, chunks, kNumSums + 1]
};

struct MapProblem : Problem {
  const double* table = nullptr;  // [regions, RegionTable<Loss>::kColumns]
  TensorView upstream;            // [groups], or one for all
  bool upstream_per_group = false;
  TensorView gradient;
};

// ---- Kernels ----

template <class Real>
__device__ double warp_sum(Real value) {
  double sum = static_cast<double>(value);
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffffu, sum, distance);
  return sum;  // in lane 0
}

// The chunk of a block: its region, and its pixels within the region.
struct Chunk {
  std::int64_t region, begin, end;

  __device__ explicit Chunk(const Regions& regions) {
    region = blockIdx.x / regions.chunks;
    begin = blockIdx.x % regions.chunks * regions.chunk_pixels;
    end = min(begin + regions.chunk_pixels, regions.pixels);
  }
};

// Which of a group's pixels are positive and which count, as bits; `invalid` of those that count are neither 0 nor 1.
template <bool kWide>
struct GroupBits {
  std::uint32_t positive = 0, counts = 0;
  int invalid = 0;

  GroupBits() = default;
  __device__ GroupBits(const Problem& problem, const LabelRule& rule, std::int64_t first, int count) {
    const GroupLabels labels = read_labels<kWide>(problem.labels, rule, first, count);
    counts = ~labels.ignored & ((1u << count) - 1);
    if (problem.labels.mask.data != nullptr) counts &= read_mask<kWide>(problem.labels.mask, first, count);
    positive = labels.positive;
    invalid = __popc(counts & ~(labels.positive | labels.negative));
  }
};

// Labels that are numbers; `invalid` of those that count are outside 0 ... 1.
template <bool kWide, class Real>
__device__ GroupBits<kWide> load_soft_labels(const Problem& problem, std::int64_t first, int count,
                                             Real (&to)[kGroup]) {
  const Labels& labels = problem.labels;
  switch (labels.target.dtype) {
    case DType::kFloat16: load_reals<kWide, Float16>(labels.target, first, count, to); break;
    case DType::kBFloat16: load_reals<kWide, BFloat16>(labels.target, first, count, to); break;
    case DType::kFloat64: load_reals<false, double>(labels.target, first, count, to); break;
    default: load_reals<kWide, float>(labels.target, first, count, to);
  }
  GroupBits<kWide> bits;
  bits.counts = (1u << count) - 1;
  if (labels.mask.data != nullptr) bits.counts &= read_mask<kWide>(labels.mask, first, count);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    const bool ignored = labels.has_ignore_index && to[i] == static_cast<Real>(labels.ignore_index);
    if (ignored) bits.counts &= ~(1u << i);
    if ((bits.counts >> i) & 1u) bits.invalid += !(to[i] >= 0 && to[i] <= 1);
  }
  return bits;
}

// The weight of the segment of each of a group's pixels, 0 outside every range; returns how many ids are unknown.
template <bool kWide, class Real>
__device__ int load_segment_weights(const Segments& segments, std::int64_t image, std::int64_t first, int count,
                                    Real (&to)[kGroup]) {
  std::int32_t ids[kGroup] = {};
  load_group<kWide>(segments.ids, first, count, ids);
  const std::int64_t* const starts = segments.starts + image;
  const Real* const weights = static_cast<const Real*>(segments.weights) + starts[0];
  int unknown = 0;
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    const bool known = is_known(ids[i], starts);
    to[i] = ids[i] != 0 && known ? weights[magnitude(ids[i])] : Real(0);
    unknown += !known;
  }
  return unknown;
}

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const Loss loss, const __grid_constant__ ReduceProblem problem) {
  using Table = RegionTable<Loss>;
  constexpr int kSums = Loss::kNumSums;
  const Chunk chunk(problem.regions);
  const std::int64_t region_start = chunk.region * problem.regions.pixels;
  // Kept bits are written up to the end of the region's last word.
  const bool last = chunk.end == problem.regions.pixels;
  const std::int64_t limit = Loss::kDropsPixels && last ? problem.regions.kept_words() * 64 : chunk.end;
  const LabelRule rule = rule_of(problem.labels, chunk.region);
  [[maybe_unused]] Real selected[Loss::kNumSelected + 1];
#pragma unroll
  for (int i = 0; i < Loss::kNumSelected; ++i) {
    selected[i] = static_cast<Real>(problem.table[chunk.region * Table::kColumns + Table::kSelected + i]);
  }

  Real sums[kSums];
#pragma unroll
  for (int s = 0; s < kSums; ++s) sums[s] = 0;
  int invalid = 0;
  for (std::int64_t at = chunk.begin + threadIdx.x * kGroup; at < limit; at += kTile) {
    const int count = static_cast<int>(max(min(chunk.end - at, std::int64_t(kGroup)), std::int64_t(0)));
    const std::int64_t first = region_start + at;
    std::uint32_t kept = 0;
    if (count > 0) {
      Real logits[kGroup];
      load_reals<kWide, Logit>(problem.logits, first, count, logits);
      [[maybe_unused]] Real of_pixels[kGroup];
      GroupBits<kWide> bits;
      if constexpr (Loss::kSoftLabels) bits = load_soft_labels<kWide>(problem, first, count, of_pixels);
      else bits = GroupBits<kWide>(problem, rule, first, count);
      invalid += bits.invalid;
      [[maybe_unused]] Real uniform[kGroup];
      if constexpr (Loss::kDropsPixels) {
        if (problem.uniform.data == nullptr) random_group(*problem.seed, first, uniform);
        else if (problem.uniform.dtype == DType::kFloat64)
          load_reals<kWide, double>(problem.uniform, first, count, uniform);
        else load_reals<kWide, float>(problem.uniform, first, count, uniform);
      }
      if constexpr (Loss::kWeighsSegments) {
        invalid += load_segment_weights<kWide>(problem.segments, chunk.region, first, count, of_pixels);
      }
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        const Pixel<Real> pixel{logits[i], ((bits.positive >> i) & 1u) != 0, ((bits.counts >> i) & 1u) != 0};
        if constexpr (Loss::kDropsPixels) kept |= (loss.accumulate(pixel, uniform[i], sums) ? 1u : 0u) << i;
        else if constexpr (Loss::kNumSelected > 0) loss.accumulate(pixel, selected, sums);
        else if constexpr (kHasNumber<Loss>) loss.accumulate(pixel, of_pixels[i], sums);
        else loss.accumulate(pixel, sums);
      }
    }
    if constexpr (Loss::kDropsPixels) {
      problem.kept[chunk.region * problem.regions.kept_words() * 8 + at / kGroup] = static_cast<std::uint8_t>(kept);
    }
  }

  __shared__ double of_warps[kThreads / kWarp][kSums + 1];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
  for (int s = 0; s <= kSums; ++s) {
    const double sum = s < kSums ? warp_sum(sums[s < kSums ? s : 0]) : warp_sum(invalid);
    if (lane == 0) of_warps[warp][s] = sum;
  }
  __syncthreads();
  if (threadIdx.x <= kSums) {
    double sum = 0;
    for (int w = 0; w < kThreads / kWarp; ++w) sum += of_warps[w][threadIdx.x];
    problem.partial_sums[blockIdx.x * std::int64_t(kSums + 1) + threadIdx.x] = sum;
  }
}

// One block: a warp adds the chunks of a group's regions and settles it, then the block adds the groups' values.
template <class Loss, class Real>
__global__ void __launch_bounds__(kSettleThreads) settle_kernel(Loss loss, Regions regions, Reduction reduction,
                                                                const double* partial_sums, double* table, Real* out) {
  using Table = RegionTable<Loss>;
  constexpr int kSums = Loss::kNumSums + 1;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  double value_of_warp = 0;
  const std::int64_t groups = regions.count / regions.of_group;
  for (std::int64_t group = warp; group < groups; group += kSettleThreads / kWarp) {
    double* rows = table + group * regions.of_group * Table::kColumns;
    for (std::int64_t r = 0; r < regions.of_group; ++r) {
      const std::int64_t region = group * regions.of_group + r;
      double sums[kSums] = {};
      for (std::int64_t chunk = lane; chunk < regions.chunks; chunk += kWarp) {
        const double* partial = partial_sums + (region * regions.chunks + chunk) * kSums;
#pragma unroll
        for (int s = 0; s < kSums; ++s) sums[s] += partial[s];
      }
#pragma unroll
      for (int s = 0; s < kSums; ++s) {
        const double sum = warp_sum(sums[s]);
        if (lane == 0) rows[r * Table::kColumns + s] = sum;
      }
    }
    if (lane == 0) {
      const double value = settle_group(loss, rows, regions.of_group, reduction, groups);
      if (reduction == Reduction::kNone) out[group] = static_cast<Real>(value);
      value_of_warp += value;
    }
  }
  if (reduction == Reduction::kNone) return;

  __shared__ double of_warps[kSettleThreads / kWarp];
  if (lane == 0) of_warps[warp] = value_of_warp;
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0;
    for (int w = 0; w < kSettleThreads / kWarp; ++w) sum += of_warps[w];
    if (reduction == Reduction::kMean && groups > 0) sum /= static_cast<double>(groups);
    *out = static_cast<Real>(sum);
  }
}

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads) map_kernel(const Loss loss, const __grid_constant__ MapProblem problem) {
  using Table = RegionTable<Loss>;
  const Chunk chunk(problem.regions);
  const double* row = problem.table + chunk.region * Table::kColumns;
  Real coefficients[Loss::kNumCoefficients];
#pragma unroll
  for (int i = 0; i < Loss::kNumCoefficients; ++i) coefficients[i] = static_cast<Real>(row[Table::kCoefficients + i]);
  const std::int64_t group = chunk.region / problem.regions.of_group;
  const std::int64_t place = offset_of(problem.upstream, problem.upstream_per_group ? group : 0);
  const Real upstream = static_cast<const Real*>(problem.upstream.data)[place];
  const Real scale = static_cast<Real>(row[Table::kScale] * static_cast<double>(upstream));
  const LabelRule rule = rule_of(problem.labels, chunk.region);

  for (std::int64_t at = chunk.begin + threadIdx.x * kGroup; at < chunk.end; at += kTile) {
    const int count = static_cast<int>(min(chunk.end - at, std::int64_t(kGroup)));
    const std::int64_t first = chunk.region * problem.regions.pixels + at;
    std::uint32_t positive, counts;
    [[maybe_unused]] Real of_pixels[kGroup];
    if constexpr (Loss::kDropsPixels) {
      counts = problem.kept[chunk.region * problem.regions.kept_words() * 8 + at / kGroup];
      // Where nothing was kept, logits and labels need not be read.
      positive = counts == 0 ? 0 : read_labels<kWide>(problem.labels, rule, first, count).positive;
    } else if constexpr (Loss::kSoftLabels) {
      positive = 0;
      counts = load_soft_labels<kWide>(problem, first, count, of_pixels).counts;
    } else {
      const GroupBits<kWide> bits(problem, rule, first, count);
      positive = bits.positive;
      counts = bits.counts;
    }
    Logit gradient[kGroup];
    Real logits[kGroup] = {};
    if (counts != 0) load_reals<kWide, Logit>(problem.logits, first, count, logits);
    if constexpr (Loss::kWeighsSegments) {
      load_segment_weights<kWide>(problem.segments, chunk.region, first, count, of_pixels);
    }
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const Pixel<Real> pixel{logits[i], ((positive >> i) & 1u) != 0, ((counts >> i) & 1u) != 0};
      Real slope;
      if constexpr (kHasNumber<Loss>) slope = loss.gradient(pixel, of_pixels[i], coefficients);
      else slope = loss.gradient(pixel, coefficients);
      gradient[i] = from_real<Logit>(select(pixel.counts, scale * slope, Real(0)));
    }
    store_group<kWide>(problem.gradient, first, count, gradient);
  }
}

// ---- Launching ----

inline Regions plan_regions(const Tensor& logits, Balance balance, std::int64_t of_group = 1) {
  constexpr std::int64_t kMinChunk = 8 * kTile, kMaxChunks = 1024;
  Regions regions;
  regions.count = count_regions(logits, balance);
  regions.of_group = of_group;
  regions.pixels = pixels_of_a_region(logits, balance);
  const std::int64_t even_share = (regions.pixels + kMaxChunks - 1) / kMaxChunks;
  regions.chunk_pixels = std::max(kMinChunk, (even_share + kTile - 1) / kTile * kTile);
  regions.chunks = (regions.pixels + regions.chunk_pixels - 1) / regions.chunk_pixels;
  return regions;
}

inline cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

inline unsigned int grid_for(const Regions& regions) {
  const std::int64_t blocks = regions.count * regions.chunks;
  STD_TORCH_CHECK(blocks <= 0x7fffffff, "rarepixel: too many regions for one launch: ", regions.count);
  return static_cast<unsigned int>(blocks);
}

// Calls run(kWide, Logit{}, Real{}): how tensors are accessed, the logits' element type, the type it is computed in.
template <class Run>
void with_types(bool wide, DType dtype, const Run& run) {
  const auto with_access = [&](auto logit, auto real) {
    if (wide) return run(std::true_type{}, logit, real);
    return run(std::false_type{}, logit, real);
  };
  switch (dtype) {
    case DType::kFloat16: return with_access(Float16{}, 0.0f);
    case DType::kBFloat16: return with_access(BFloat16{}, 0.0f);
    case DType::kFloat64: return with_access(0.0, 0.0);
    default: return with_access(0.0f, 0.0f);
  }
}

inline void fill_problem(Problem& problem, const Tensor& logits, const Labels& labels, const Regions& regions) {
  problem.regions = regions;
  problem.logits = view_of(logits);
  problem.labels = labels;
}

inline bool lies_in_groups(const Problem& problem, const TensorView& other) {
  const std::int64_t pixels = problem.regions.pixels;
  return has_wide_reader(problem.labels.target.dtype) && lies_in_groups(problem.logits, pixels) &&
         lies_in_groups(problem.labels.target, pixels) && lies_in_groups(problem.labels.mask, pixels) &&
         lies_in_groups(problem.segments.ids, pixels) && lies_in_groups(other, pixels);
}

struct Forward {
  Tensor loss;   // () or one value per group
  Tensor table;  // [regions, RegionTable<Loss>::kColumns], float64
};

// settle: from the sums of each region's chunks to the rows of the table and the loss.
template <class Loss>
Forward settle(const Loss& loss, const Regions& regions, const double* partial_sums, const Tensor& table,
               const Tensor& out, Reduction reduction, cudaStream_t stream) {
  double* rows = static_cast<double*>(table.mutable_data_ptr());
  const auto launch = [&](auto real) {
    using Real = decltype(real);
    settle_kernel<Loss, Real><<<1, kSettleThreads, 0, stream>>>(loss, regions, reduction, partial_sums, rows,
                                                                static_cast<Real*>(out.mutable_data_ptr()));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  };
  if (out.scalar_type() == ScalarType::Double) launch(0.0);
  else launch(0.0f);
  return {out, table};
}

// reduce and settle. `problem` holds what the loss is about besides the labels: random numbers, kept bits. `table` is
// empty_table<Loss>(), with the selected numbers if the loss has any.
template <class Loss>
Forward forward(const Loss& loss, const Tensor& logits, const Labels& labels, Balance balance, Reduction reduction,
                const Tensor& table, ReduceProblem problem = {}) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  fill_problem(problem, logits, labels, plan_regions(logits, balance, regions_of_group<Loss>(logits)));
  const Regions& regions = problem.regions;
  problem.table = static_cast<const double*>(table.const_data_ptr());
  const Tensor partial_sums =
      empty_on_device_of(logits, {regions.count * regions.chunks, Loss::kNumSums + 1}, ScalarType::Double);
  problem.partial_sums = static_cast<double*>(partial_sums.mutable_data_ptr());

  const cudaStream_t stream = current_stream(logits);
  const bool wide = lies_in_groups(problem, problem.uniform);
  with_types(wide, problem.logits.dtype, [&]<class Wide, class Logit, class Real>(Wide, Logit, Real) {
    const unsigned int blocks = grid_for(regions);
    if (blocks == 0) return;
    reduce_kernel<Wide::value, Loss, Logit, Real><<<blocks, kThreads, 0, stream>>>(loss, problem);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return settle(loss, regions, problem.partial_sums, table, empty_loss<Loss>(logits, balance, reduction), reduction,
                stream);
}

template <class Loss>
Forward forward(const Loss& loss, const Tensor& logits, const Labels& labels, Balance balance, Reduction reduction,
                const ReduceProblem& problem = {}) {
  static_assert(Loss::kNumSelected == 0, "this loss needs a table with its selected numbers");
  return forward(loss, logits, labels, balance, reduction, empty_table<Loss>(logits, balance), problem);
}

// map: the gradient, in the logits' dtype and strides.
template <class Loss>
Tensor backward(const Loss& loss, const Tensor& upstream,  // () or one value per group
                const Tensor& logits, const Labels& labels, Balance balance,
                const Tensor& table,  // [regions, RegionTable<Loss>::kColumns]
                MapProblem problem = {}) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  Tensor gradient = empty_gradient(logits);
  fill_problem(problem, logits, labels, plan_regions(logits, balance, regions_of_group<Loss>(logits)));
  problem.table = static_cast<const double*>(table.const_data_ptr());
  problem.upstream = view_of(upstream);
  problem.upstream_per_group = upstream.dim() > 0;
  problem.gradient = view_of(gradient);
  const unsigned int blocks = grid_for(problem.regions);
  if (blocks == 0) return gradient;
  const bool wide = lies_in_groups(problem, problem.gradient);
  with_types(wide, problem.logits.dtype, [&]<class Wide, class Logit, class Real>(Wide, Logit, Real) {
    map_kernel<Wide::value, Loss, Logit, Real><<<blocks, kThreads, 0, current_stream(logits)>>>(loss, problem);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return gradient;
}

}  // namespace rarepixel::cuda
