// The CUDA engine's kernels: they run any loss over regions of pixels (region.h says what a loss is).
//
// Forward is two launches: reduce_kernel leaves each block's sums, settle_kernel (settle.cuh) adds and settles them.
// Backward is one: map_kernel. Sums are float in a thread, double from there on, and added in one order always; there
// are no atomics but on a ticket, no synchronisation with the host, and nothing that a CUDA graph could not replay.
#pragma once

#include <cuda_runtime.h>

#include "pixel_octet.cuh"
#include "settle.cuh"

namespace rarepixel::cuda {

inline constexpr int kThreads = 256;
inline constexpr int kTile = kThreads * kOctet;  // pixels that a block works on at a time
inline constexpr int kMaxChunks = 1024;          // of a region

// ---- Kernels ----

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

// Adds pixel `k` of an octet to the sums, with the inputs that the loss asks for; returns whether it counts or, of a loss
// that drops pixels, is kept.
template <class Loss, class Octet, class Real>
__device__ bool accumulate(const Loss& loss, const Octet& pixels, int k, [[maybe_unused]] const Real* found,
                           Real (&sums)[Loss::kNumSums]) {
  const Pixel<Real> pixel = pixels.pixel(k);
  if constexpr (Loss::kWeighsPixels) {
    Real once[Loss::kNumSums] = {};
    const bool kept = accumulate(static_cast<const typename Loss::Unweighted&>(loss), pixels, k, found, once);
#pragma unroll
    for (int s = 0; s < Loss::kNumSums; ++s) sums[s] = add_where(pixel.counts, sums[s], pixels.weights[k] * once[s]);
    return kept;
  } else if constexpr (Loss::kDropsPixels) {
    return loss.accumulate(pixel, pixels.uniform[k], sums);
  } else {
    if constexpr (Loss::kNumFound > 0) loss.accumulate(pixel, found, sums);
    else if constexpr (kHasNumber<Loss>) loss.accumulate(pixel, pixels.numbers[k], sums);
    else loss.accumulate(pixel, sums);
    return pixel.counts;
  }
}

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const Loss loss, const __grid_constant__ ReduceProblem problem,
                  const __grid_constant__ LabelCodes codes_of_problem, unsigned int* ticket) {
  using Table = RegionTable<Loss>;
  using Octet = PixelOctet<kWide, Loss, Real>;
  constexpr int kSums = Loss::kNumSums;
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
        const bool is_kept = accumulate(loss, pixels, k, found, sums);
        if constexpr (Loss::kDropsPixels) kept |= (is_kept ? 1u : 0u) << k;
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
  if (blockIdx.x == 0 && threadIdx.x == 0) *ticket = 0;  // of settle
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
  const std::int64_t place = offset_of(problem.upstream, problem.upstream_per_group ? chunk.group : 0);
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
      if constexpr (Loss::kWeighsPixels) slope *= pixels.weights[k];
      gradient.set(k, from_real<Logit>(select(pixel.counts, scale * slope, Real(0))));
    }
    store_octet<kWide>(problem.gradient, first, count, gradient);
  }
}

}  // namespace rarepixel::cuda
