// The CUDA engine's kernels: they run any loss over regions of pixels (region.h says what a loss is).
//
// Forward is two launches: reduce_kernel leaves each block's sums, settle_kernel adds them and settles the regions.
// Backward is one: map_kernel. Sums are float in a thread, double from there on, and added in one order always: there
// are no atomics but the ticket that tells the last block of settle. Nothing synchronises with the host, and a CUDA
// graph can replay all.
#pragma once

#include <cuda_runtime.h>

#include "pixel_octet.cuh"

namespace rarepixel::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 256;
inline constexpr int kTile = kThreads * kOctet;  // pixels that a block works on at a time
inline constexpr int kSettleThreads = 256;

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

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const Loss loss, const __grid_constant__ ReduceProblem problem,
                  const __grid_constant__ LabelCodes codes_of_problem) {
  using Table = RegionTable<Loss>;
  using Octet = PixelOctet<kWide, Loss, Real>;
  constexpr int kSums = Loss::kNumSums;
  if (blockIdx.x == 0 && threadIdx.x == 0) *problem.ticket = 0;
  const Chunk chunk(problem.regions);
  // In 32 bits: chunks are far smaller (plan_regions), and registers are scarce.
  const int chunk_pixels = static_cast<int>(chunk.end - chunk.begin);
  const std::int64_t chunk_start = chunk.region * problem.regions.pixels + chunk.begin;
  // Kept bits are written up to the end of the region's last word.
  const bool last = chunk.end == problem.regions.pixels;
  const int limit =
      Loss::kDropsPixels && last ? static_cast<int>(problem.regions.kept_words() * 64 - chunk.begin) : chunk_pixels;
  const LabelCodes codes = Loss::kIndexMap ? LabelCodes(problem.labels, chunk.region) : codes_of_problem;
  [[maybe_unused]] Real found[Loss::kNumFound + 1];
#pragma unroll
  for (int i = 0; i < Loss::kNumFound; ++i) {
    found[i] = static_cast<Real>(problem.table[chunk.region * Table::kColumns + Table::kFound + i]);
  }
  [[maybe_unused]] RoundKeys keys;
  if constexpr (Loss::kDropsPixels) {
    if (problem.seed != nullptr) keys = round_keys(*problem.seed);
  }

  Real sums[kSums];
#pragma unroll
  for (int s = 0; s < kSums; ++s) sums[s] = 0;
  int invalid = 0;
  for (int i = static_cast<int>(threadIdx.x) * kOctet; i < limit; i += kTile) {
    const int count = max(min(chunk_pixels - i, kOctet), 0);
    const std::int64_t first = chunk_start + i;
    std::uint32_t kept = 0;
    if (count > 0) {
      Octet pixels;
      invalid += pixels.template read<Logit>(problem, codes, keys, chunk.region, first, count);
#pragma unroll
      for (int k = 0; k < kOctet; ++k) {
        const Pixel<Real> pixel = pixels.pixel(k);
        if constexpr (Loss::kDropsPixels) kept |= (loss.accumulate(pixel, pixels.uniform[k], sums) ? 1u : 0u) << k;
        else if constexpr (Loss::kNumFound > 0) loss.accumulate(pixel, found, sums);
        else if constexpr (kHasNumber<Loss>) loss.accumulate(pixel, pixels.numbers[k], sums);
        else loss.accumulate(pixel, sums);
      }
    }
    if constexpr (Loss::kDropsPixels) {
      *Octet::kept_byte(problem, chunk.region, chunk.begin + i) = static_cast<std::uint8_t>(kept);
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

// Which rows of the table a block of settle adds up: a warp a row, or all its warps where a row has many chunks.
struct RowShare {
  static constexpr int kWarps = kSettleThreads / kWarp;
  static constexpr std::int64_t kManyChunks = 4 * kWarp;
  int warps_of_row;
  unsigned int blocks;

  explicit RowShare(const Regions& rows) {
    warps_of_row = rows.chunks > kManyChunks ? kWarps : 1;
    const std::int64_t rows_of_block = kWarps / warps_of_row;
    blocks = static_cast<unsigned int>((rows.count + rows_of_block - 1) / rows_of_block);
    if (blocks == 0) blocks = 1;  // no rows have a value, too
  }
};

// Blocks add up rows; the one that is done last settles the groups, a thread a group, and adds their values.
template <class Loss, class Real>
__global__ void __launch_bounds__(kSettleThreads)
    settle_kernel(Loss loss, Regions regions, RowShare share, Reduction reduction, const double* partial_sums,
                  unsigned int* ticket, double* table, Real* out) {
  using Table = RegionTable<Loss>;
  constexpr int kSums = Loss::kNumSums + 1, kWarps = RowShare::kWarps;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int rows_of_block = kWarps / share.warps_of_row;
  const std::int64_t first_row = std::int64_t(blockIdx.x) * rows_of_block;
  const std::int64_t row = first_row + warp / share.warps_of_row;

  __shared__ double of_warps[kWarps][kSums];
  double sums[kSums] = {};
  if (row < regions.count) {
    for (std::int64_t chunk = warp % share.warps_of_row * kWarp + lane; chunk < regions.chunks;
         chunk += share.warps_of_row * kWarp) {
      const double* partial = partial_sums + (row * regions.chunks + chunk) * kSums;
#pragma unroll
      for (int s = 0; s < kSums; ++s) sums[s] += partial[s];
    }
  }
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    const double sum = warp_sum(sums[s]);
    if (lane == 0) of_warps[warp][s] = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rows_of_block * kSums; i += kSettleThreads) {
    const int of_block = i / kSums, s = i % kSums;
    double sum = 0;
    for (int w = 0; w < share.warps_of_row; ++w) sum += of_warps[of_block * share.warps_of_row + w][s];
    if (first_row + of_block < regions.count) table[(first_row + of_block) * Table::kColumns + s] = sum;
  }
  __threadfence();
  __syncthreads();
  if (!__syncthreads_or(threadIdx.x == 0 && atomicAdd(ticket, 1u) == gridDim.x - 1)) return;
  __threadfence();

  const std::int64_t groups = regions.count / regions.of_group;
  double value_of_thread = 0;
  for (std::int64_t group = threadIdx.x; group < groups; group += kSettleThreads) {
    double* rows = table + group * regions.of_group * Table::kColumns;
    const double value = settle_group(loss, rows, regions.of_group, reduction, groups);
    if (reduction == Reduction::kNone) out[group] = static_cast<Real>(value);
    value_of_thread += value;
  }
  if (reduction == Reduction::kNone) return;
  const double value_of_warp = warp_sum(value_of_thread);
  __shared__ double values[kWarps];
  if (lane == 0) values[warp] = value_of_warp;
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += values[w];
    if (reduction == Reduction::kMean && groups > 0) sum /= static_cast<double>(groups);
    *out = static_cast<Real>(sum);
  }
}

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads) map_kernel(const Loss loss, const __grid_constant__ MapProblem problem,
                                                       const __grid_constant__ LabelCodes codes_of_problem) {
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
  const LabelCodes codes = Loss::kIndexMap ? LabelCodes(problem.labels, chunk.region) : codes_of_problem;

  const int chunk_pixels = static_cast<int>(chunk.end - chunk.begin);
  const std::int64_t chunk_start = chunk.region * problem.regions.pixels + chunk.begin;
  for (int i = static_cast<int>(threadIdx.x) * kOctet; i < chunk_pixels; i += kTile) {
    const int count = min(chunk_pixels - i, kOctet);
    const std::int64_t first = chunk_start + i;
    PixelOctet<kWide, Loss, Real> pixels;
    pixels.template read<Logit>(problem, codes, chunk.region, first, chunk.begin + i, count);
    Elements<Logit> gradient;
#pragma unroll
    for (int k = 0; k < kOctet; ++k) {
      const Pixel<Real> pixel = pixels.pixel(k);
      Real slope;
      if constexpr (kHasNumber<Loss>) slope = loss.gradient(pixel, pixels.numbers[k], coefficients);
      else slope = loss.gradient(pixel, coefficients);
      gradient.set(k, from_real<Logit>(select(pixel.counts, scale * slope, Real(0))));
    }
    store_octet<kWide>(problem.gradient, first, count, gradient);
  }
}

}  // namespace rarepixel::cuda
