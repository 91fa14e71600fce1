// CUDA's vocabulary, as far as the kernels use it, for a CPU: stands in for the toolkit's header of this name.
//
// What threads do together goes to the scheduler, which knows from where it was called; everything else is plain C++.
// A word that a kernel needs and that is missing here is added here.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../scheduler.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __noinline__
#define __forceinline__ inline

// ---- The host's half ----

using dim3 = emulation::dim3;
using cudaStream_t = void*;
using cudaError_t = int;

// A launch is over, or has thrown, when the next line of the host runs.
inline cudaError_t cudaGetLastError() { return 0; }

// There is no driver.
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 0; }
inline cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 0; }

inline cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return 0;
}

// ---- Where a thread is ----

// Set by the scheduler whenever a thread goes on.
#define threadIdx (emulation::here.thread)
#define blockIdx (emulation::here.block)
#define blockDim (emulation::here.block_size)
#define gridDim (emulation::here.grid)

// ---- What the threads of a block, or the lanes of a warp, do together ----

using emulation::Line;

inline void __syncthreads(Line line = Line::current()) { emulation::block_barrier(false, line); }
inline int __syncthreads_or(int predicate, Line line = Line::current()) {
  return emulation::block_barrier(predicate != 0, line) > 0;
}
inline int __syncthreads_count(int predicate, Line line = Line::current()) {
  return emulation::block_barrier(predicate != 0, line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, Line line = Line::current()) {
  emulation::collective(emulation::Collective::kSyncWarp, mask, 0, 0, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, Line line = Line::current()) {
  return static_cast<unsigned>(emulation::collective(emulation::Collective::kBallot, mask, predicate != 0, 0, line));
}
inline int __any_sync(unsigned mask, int predicate, Line line = Line::current()) {
  return emulation::collective(emulation::Collective::kBallot, mask, predicate != 0, 0, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, Line line = Line::current()) {
  return emulation::collective(emulation::Collective::kBallot, mask, predicate == 0, 0, line) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, Line line = Line::current()) {
  return static_cast<unsigned>(
      emulation::collective(emulation::Collective::kMatch, mask, emulation::bits_of(value), 0, line));
}

// From lane `source`; where that is no lane of the warp, a lane keeps its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, Line line = Line::current()) {
  return emulation::shuffle(mask, value, source & 31, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, Line line = Line::current()) {
  return emulation::shuffle(mask, value, static_cast<int>(emulation::lane() + distance), line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, Line line = Line::current()) {
  return emulation::shuffle(mask, value, static_cast<int>(emulation::lane()) - static_cast<int>(distance), line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int of_lane, Line line = Line::current()) {
  return emulation::shuffle(mask, value, static_cast<int>(emulation::lane()) ^ of_lane, line);
}

// ---- Memory ----

inline void __threadfence() { emulation::fence(); }

template <class T>
T atomicAdd(T* to, T value) {
  static_assert(std::is_integral_v<T>, "sums of floating-point numbers are added in one order, never by atomics");
  emulation::atomic_access(to);
  return std::atomic_ref<T>(*to).fetch_add(value, std::memory_order_relaxed);
}
template <class T>
T atomicOr(T* to, T value) {
  emulation::atomic_access(to);
  return std::atomic_ref<T>(*to).fetch_or(value, std::memory_order_relaxed);
}
template <class T>
T atomicMax(T* to, T value) {
  emulation::atomic_access(to);
  const std::atomic_ref<T> at(*to);
  T before = at.load(std::memory_order_relaxed);
  while (before < value && !at.compare_exchange_weak(before, value, std::memory_order_relaxed)) {
  }
  return before;
}
template <class T>
T __ldg(const T* from) {
  return *from;
}

namespace emulation {

// For volatile accesses, which on a GPU are whole and meet the memory that all threads see.
template <class T>
T volatile_load(const T* from) {
  return std::atomic_ref<T>(*const_cast<T*>(from)).load(std::memory_order_relaxed);
}
template <class T>
void volatile_store(T* to, T value) {
  std::atomic_ref<T>(*to).store(value, std::memory_order_relaxed);
}

}  // namespace emulation

// ---- Arithmetic ----

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) >> (shift & 31));
}
template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
