// The second launch of a forward pass: from the sums of every region's chunks to the table's rows and the loss.
//
// Rows are added up all over the GPU; the block that is done last, by a ticket, adds the groups' values. What is added in
// which order depends on shapes alone.
#pragma once

#include <cuda_runtime.h>

#include "../region.h"
#include "warps.cuh"

namespace rarepixel::cuda {

inline constexpr int kSettleThreads = 512, kSettleWarps = kSettleThreads / kWarp;

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

// Adds the chunks first, first + step, ... of a region, and over the lanes of a warp. Several are on their way at a time,
// if their sums fit the registers.
template <int kSums>
__device__ void add_chunks(const double* partial_sums, std::int64_t chunks, int first, int step,
                           double (&sums)[kSums]) {
#pragma unroll(kSums <= 12 ? 4 : 1)
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
                                       Reduction reduction, std::int64_t groups, std::int64_t first) {
  using Table = RegionTable<Loss>;
  const int lane = threadIdx.x % kWarp;
  double pooled[Loss::kNumPooled + 1] = {};
  if constexpr (Loss::kNumPooled > 0) {
    for (std::int64_t r = lane; r < regions_of_group; r += kWarp) loss.pool(rows + r * Table::kColumns, r, pooled);
#pragma unroll
    for (int i = 0; i < Loss::kNumPooled; ++i) pooled[i] = warp_sum(pooled[i]);
  }
  GroupSums sums;
  for (std::int64_t r = lane; r < regions_of_group; r += kWarp) {
    settle_row(loss, rows + r * Table::kColumns, pooled, r, first + r, sums);
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
    const std::int64_t first_row = group * regions.of_group;
    const double value =
        settle_group_of_warp(loss, table + first_row * kColumns, regions.of_group, reduction, groups, first_row);
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

}  // namespace rarepixel::cuda
