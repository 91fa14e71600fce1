// The CUDA engine's kernels: they run any loss over regions of pixels (region.h says what a loss is).
//
// Forward is two launches: reduce_kernel leaves each block's sums, settle_kernel adds them and settles the regions.
// Backward is one: map_kernel. Sums are float in a thread, double from there on, and added in one order always; there
// are no atomics but on a ticket, no synchronisation with the host, and nothing that a CUDA graph could not replay.
#pragma once

#include <cuda_runtime.h>

#include "pixel_octet.cuh"

namespace rarepixel::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 256;
inline constexpr int kTile = kThreads * kOctet;  // pixels that a block works on at a time
inline constexpr int kMaxChunks = 1024;          // of a region
inline constexpr int kSettleThreads = 512, kSettleWarps = kSettleThreads / kWarp;

// ---- Kernels ----

template <class Real>
__device__ double warp_sum(Real value) {
  double sum = static_cast<double>(value);
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  return sum;  // the same in every lane
}

// The chunk of a block: its region and group, and its pixels within the region. There are no more regions than blocks: 32
// bits hold their numbers, and divide several times as fast as 64.
struct Chunk {
  std::int64_t region, group, begin, end;

  __device__ explicit Chunk(const Regions& regions) {
    const std::uint32_t chunks = static_cast<std::uint32_t>(regions.chunks), of_region = blockIdx.x / chunks;
    region = of_region;
    group = of_region / static_cast<std::uint32_t>(regions.of_group);
    begin = blockIdx.x % chunks * regions.chunk_pixels;
    end = min(begin + regions.chunk_pixels, regions.pixels);
  }
};

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const Loss loss, const __grid_constant__ ReduceProblem problem, unsigned int* ticket) {
  using Table = RegionTable<Loss>;
  using Octet = PixelOctet<kWide, Loss, Real>;
  constexpr int kSums = Loss::kNumSums;
  const Chunk chunk(problem.regions);
  const std::int64_t region_start = chunk.region * problem.regions.pixels;
  // Kept bits are written up to the end of the region's last word.
  const bool last = chunk.end == problem.regions.pixels;
  const std::int64_t limit = Loss::kDropsPixels && last ? problem.regions.kept_words() * 64 : chunk.end;
  const LabelRule rule = rule_of(problem.labels, chunk.region);
  [[maybe_unused]] Real found[Loss::kNumFound + 1];
#pragma unroll
  for (int i = 0; i < Loss::kNumFound; ++i) {
    found[i] = static_cast<Real>(problem.table[chunk.region * Table::kColumns + Table::kFound + i]);
  }

  Real sums[kSums];
#pragma unroll
  for (int s = 0; s < kSums; ++s) sums[s] = 0;
  int invalid = 0;
  for (std::int64_t at = chunk.begin + threadIdx.x * kOctet; at < limit; at += kTile) {
    const int count = static_cast<int>(max(min(chunk.end - at, std::int64_t(kOctet)), std::int64_t(0)));
    const std::int64_t first = region_start + at;
    std::uint32_t kept = 0;
    if (count > 0) {
      Octet pixels;
      invalid += pixels.template read<Logit>(problem, rule, chunk.region, first, count);
#pragma unroll
      for (int i = 0; i < kOctet; ++i) {
        const Pixel<Real> pixel = pixels.pixel(i);
        if constexpr (Loss::kDropsPixels) kept |= (loss.accumulate(pixel, pixels.uniform[i], sums) ? 1u : 0u) << i;
        else if constexpr (Loss::kNumFound > 0) loss.accumulate(pixel, found, sums);
        else if constexpr (kHasNumber<Loss>) loss.accumulate(pixel, pixels.numbers[i], sums);
        else loss.accumulate(pixel, sums);
      }
    }
    if constexpr (Loss::kDropsPixels) {
      *Octet::kept_byte(problem, chunk.region, at) = static_cast<std::uint8_t>(kept);
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
  if (blockIdx.x == 0 && threadIdx.x == 0) *ticket = 0;  // of settle
}

// ---- Settle ----

// What settle works in.
struct SettleMemory {
  double* values;        // [groups]
  unsigned int* ticket;  // how many blocks are done; 0 before, which reduce's first block sees to
};

// Whether a warp adds the chunks of a region: four are on their way to each lane at a time. More are worth a block.
RAREPIXEL_INLINE bool settled_by_warp(const Regions& regions) { return regions.chunks <= 4 * kWarp; }

// Whether all other blocks are done: what they wrote is seen from here on. All threads of a block ask together.
__device__ inline bool is_last_block(unsigned int* ticket) {
  __syncthreads();
  if (gridDim.x == 1) return true;
  bool last = false;
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  return __syncthreads_or(last) != 0;
}

// Adds the chunks first, first + step, ... of a region, and over the lanes of a warp.
template <int kSums>
__device__ void add_chunks(const double* partial_sums, std::int64_t chunks, int first, int step,
                           double (&sums)[kSums]) {
#pragma unroll 4
  for (std::int64_t chunk = first; chunk < chunks; chunk += step) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) sums[s] += partial_sums[chunk * kSums + s];
  }
#pragma unroll
  for (int s = 0; s < kSums; ++s) sums[s] = warp_sum(sums[s]);
}

// Leaves the sums of a region's chunks in its row: by a warp, for its lane 0.
template <int kSums>
__device__ void add_region_by_warp(const double* partial_sums, std::int64_t chunks, double* row) {
  const int lane = threadIdx.x % kWarp;
  double sums[kSums] = {};
  add_chunks(partial_sums, chunks, lane, kWarp, sums);
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    if (lane == 0) row[s] = sums[s];
  }
}

// The same by a block, for all of it.
template <int kSums>
__device__ void add_region_by_block(const double* partial_sums, std::int64_t chunks, double* row) {
  __shared__ double of_warps[kSettleWarps][kSums];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  double sums[kSums] = {};
  add_chunks(partial_sums, chunks, threadIdx.x, kSettleThreads, sums);
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    if (lane == 0) of_warps[warp][s] = sums[s];
  }
  __syncthreads();
  if (threadIdx.x < kSums) {
    double sum = 0;
    for (int w = 0; w < kSettleWarps; ++w) sum += of_warps[w][threadIdx.x];
    row[threadIdx.x] = sum;
  }
  __syncthreads();
}

// settle_group (region.h) by a warp, a lane a row; returns the group's value in every lane.
template <class Loss>
__device__ double settle_group_of_warp(const Loss& loss, double* rows, std::int64_t regions_of_group,
                                       Reduction reduction, std::int64_t groups) {
  using Table = RegionTable<Loss>;
  const int lane = threadIdx.x % kWarp;
  double pooled[Loss::kNumPooled + 1] = {};
  if constexpr (Loss::kNumPooled > 0) {
    for (std::int64_t r = lane; r < regions_of_group; r += kWarp) loss.pool(rows + r * Table::kColumns, pooled);
#pragma unroll
    for (int i = 0; i < Loss::kNumPooled; ++i) pooled[i] = warp_sum(pooled[i]);
  }
  GroupSums sums;
  for (std::int64_t r = lane; r < regions_of_group; r += kWarp) {
    settle_row(loss, rows + r * Table::kColumns, pooled, r, sums);
  }
  const GroupValue group({warp_sum(sums.value), warp_sum(sums.weight), warp_sum(sums.invalid)}, reduction, groups);
  for (std::int64_t r = lane; r < regions_of_group; r += kWarp) {
    rows[r * Table::kColumns + Table::kScale] = group.scale;
  }
  return group.value;
}

// A warp or a block adds the chunks of a region, which one depends on their number. A region that is a group of its own
// is settled at once; groups of several regions are settled by the block that is done last, a warp a group. That block
// adds the groups' values.
template <class Loss, class Real>
__global__ void __launch_bounds__(kSettleThreads)
    settle_kernel(const Loss loss, const Regions regions, Reduction reduction, const double* partial_sums,
                  double* table, SettleMemory memory, Real* out) {
  constexpr int kColumns = RegionTable<Loss>::kColumns, kSums = Loss::kNumSums + 1;
  constexpr bool kPools = Loss::kNumPooled > 0;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const std::int64_t groups = regions.count / regions.of_group;
  const auto settle = [&](std::int64_t group) {
    double* const rows = table + group * regions.of_group * kColumns;
    const double value = settle_group_of_warp(loss, rows, regions.of_group, reduction, groups);
    if (lane != 0) return;
    if (reduction == Reduction::kNone) out[group] = static_cast<Real>(value);
    else memory.values[group] = value;
  };
  const bool by_warp = settled_by_warp(regions);
  const std::int64_t first = by_warp ? blockIdx.x * kSettleWarps + warp : blockIdx.x;
  const std::int64_t step = by_warp ? gridDim.x * kSettleWarps : gridDim.x;
  for (std::int64_t region = first; region < regions.count; region += step) {
    const double* const partial = partial_sums + region * regions.chunks * kSums;
    double* const row = table + region * kColumns;
    if (by_warp) add_region_by_warp<kSums>(partial, regions.chunks, row);
    else add_region_by_block<kSums>(partial, regions.chunks, row);
    if constexpr (!kPools) {
      if (by_warp || warp == 0) settle(region);
    }
  }
  if (!kPools && reduction == Reduction::kNone) return;
  if (!is_last_block(memory.ticket)) return;
  if constexpr (kPools) {
    for (std::int64_t group = warp; group < groups; group += kSettleWarps) settle(group);
    if (reduction == Reduction::kNone) return;
    __syncthreads();
  }

  double sum = 0;
  for (std::int64_t group = threadIdx.x; group < groups; group += kSettleThreads) sum += memory.values[group];
  sum = warp_sum(sum);
  __shared__ double of_warps[kSettleWarps];
  if (lane == 0) of_warps[warp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int w = 0; w < kSettleWarps; ++w) sum += of_warps[w];
    if (reduction == Reduction::kMean && groups > 0) sum /= static_cast<double>(groups);
    *out = static_cast<Real>(sum);
  }
}

// ---- Map ----

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads) map_kernel(const Loss loss, const __grid_constant__ MapProblem problem) {
  using Table = RegionTable<Loss>;
  const Chunk chunk(problem.regions);
  const double* row = problem.table + chunk.region * Table::kColumns;
  Real coefficients[Loss::kNumCoefficients];
#pragma unroll
  for (int i = 0; i < Loss::kNumCoefficients; ++i) coefficients[i] = static_cast<Real>(row[Table::kCoefficients + i]);
  const std::int64_t place = offset_of(problem.upstream, problem.upstream_per_group ? chunk.group : 0);
  const Real upstream = static_cast<const Real*>(problem.upstream.data)[place];
  const Real scale = static_cast<Real>(row[Table::kScale] * static_cast<double>(upstream));
  const LabelRule rule = rule_of(problem.labels, chunk.region);

  for (std::int64_t at = chunk.begin + threadIdx.x * kOctet; at < chunk.end; at += kTile) {
    const int count = static_cast<int>(min(chunk.end - at, std::int64_t(kOctet)));
    const std::int64_t first = chunk.region * problem.regions.pixels + at;
    PixelOctet<kWide, Loss, Real> pixels;
    pixels.template read<Logit>(problem, rule, chunk.region, first, at, count);
    Logit gradient[kOctet];
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      const Pixel<Real> pixel = pixels.pixel(i);
      Real slope;
      if constexpr (kHasNumber<Loss>) slope = loss.gradient(pixel, pixels.numbers[i], coefficients);
      else slope = loss.gradient(pixel, coefficients);
      gradient[i] = from_real<Logit>(select(pixel.counts, scale * slope, Real(0)));
    }
    store_octet<kWide>(problem.gradient, first, count, gradient);
  }
}

}  // namespace rarepixel::cuda
