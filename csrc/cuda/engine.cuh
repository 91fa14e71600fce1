// The CUDA engine's kernels: they run any loss over regions of pixels (region.h says what a loss is).
//
// Forward is two launches: reduce_kernel leaves each block's sums, settle_kernel adds them and settles the regions.
// Backward is one: map_kernel. Sums are float in a thread, double from there on, and added in one order always; there
// are no atomics, no synchronisation with the host, and nothing that a CUDA graph could not replay.
#pragma once

#include <cuda_runtime.h>

#include "pixel_octet.cuh"

namespace rarepixel::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kThreads = 256;
inline constexpr int kTile = kThreads * kOctet;  // pixels that a block works on at a time
inline constexpr int kSettleThreads = 1024;
inline constexpr int kMaxChunks = 1024;  // of a region

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
    const unsigned int chunks = static_cast<unsigned int>(regions.chunks);  // dividing 64 bits takes four times as long
    region = blockIdx.x / chunks;
    begin = blockIdx.x % chunks * regions.chunk_pixels;
    end = min(begin + regions.chunk_pixels, regions.pixels);
  }
};

template <bool kWide, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const Loss loss, const __grid_constant__ ReduceProblem problem) {
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
