// Between the two halves of the CPU engine: what the torch side (launch.h) asks of the SIMD side (engine.h).
//
// The SIMD side is compiled once per instruction set and sees raw pointers only.
#pragma once

#include <cstdint>

#include "../problem.h"

namespace rarepixel {

inline constexpr int kBlock = 2048;  // pixels worked on at a time: the buffers of a block stay in the first cache

// Regions are runs of region_pixels pixels. A region is cut into chunks, the same for every number of threads, and a
// chunk is worked on by one thread.
struct Regions {
  std::int64_t count = 0;
  std::int64_t pixels = 0;
  std::int64_t chunk_pixels = 0;  // a multiple of kBlock
  std::int64_t chunks = 0;        // per region
};

struct ReduceProblem {
  Regions regions;
  TensorView logits;
  Labels labels;
  TensorView uniform;  // absent: the numbers of `seed`
  std::uint64_t seed = 0;
  std::uint64_t* kept = nullptr;   // [regions, ceil(pixels / 64)], one bit a pixel; for losses that drop pixels
  double* partial_sums = nullptr;  // [regions, chunks, kNumSums + 1]
};

struct MapProblem {
  Regions regions;
  TensorView logits;
  Labels labels;  // without mask and ignore_index for losses that drop pixels: `kept` tells what counts
  const std::uint64_t* kept = nullptr;
  const double* table = nullptr;  // [regions, RegionTable<Loss>::kColumns]
  TensorView upstream;            // [regions] or, one for all, [1]
  bool upstream_per_region = false;
  TensorView gradient;  // the logits' dtype
};

template <class Loss>
struct Kernels {
  void (*reduce)(const Loss& loss, const ReduceProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk);
  void (*map)(const Loss& loss, const MapProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk);
};

// One copy per instruction set, made in isa_<name>.cpp.
namespace baseline {
template <class Loss>
Kernels<Loss> kernels();
}
namespace avx2 {
template <class Loss>
Kernels<Loss> kernels();
}
namespace avx512 {
template <class Loss>
Kernels<Loss> kernels();
}

}  // namespace rarepixel
