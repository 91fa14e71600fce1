// Between the two halves of the CPU engine: what the torch side (launch.h) asks of the SIMD side (engine.h).
//
// The SIMD side is compiled once per instruction set and sees raw pointers only.
#pragma once

#include <cstdint>

#include "../declaration.h"
#include "../problem.h"

namespace rarepixel {

struct SegmentCounts;  // losses/segment_thickness.h

inline constexpr int kBlock = 2048;  // pixels worked on at a time: the buffers of a block stay in the first cache

// ---- The search for thresholds (threshold.h) ----

// What a pass over the negatives looks at: the closed interval low ... high. Keys inside are counted by
// (key - key of low) >> shift, or collected if there are few enough.
struct ThresholdInterval {
  double low = 0, high = 0;  // hold a float exactly
  int shift = 0;
  bool collect = false;  // at most ThresholdCounts::kBins keys are inside
};

struct ThresholdCounts {
  static constexpr int kBins = 2048;
  std::int64_t negatives = 0;
  std::int64_t above = 0;  // beyond high, every NaN included
  std::int64_t at_high = 0;
  std::int64_t at_low = 0;  // unless low is high
  std::int64_t inside = 0;
  std::int64_t bins[kBins] = {};  // of those inside
  std::uint64_t keys[kBins];      // or these themselves
};

template <class Real>
struct ThresholdKernels {
  void (*count)(const RegionProblem& problem, const ThresholdInterval& interval, std::int64_t first_chunk,
                std::int64_t last_chunk, ThresholdCounts& counts);
  // Some of a region's negatives from everywhere in it, into to[0 .. kSampleSize); returns how many.
  int (*sample)(const RegionProblem& problem, std::int64_t region, double* to);
};

inline constexpr int kSamplePieces = 512, kPieceSize = 8;
inline constexpr int kSampleSize = kSamplePieces * kPieceSize;

// An image of one bit a pixel within a frame of zeros, and what thinning it needs besides. All 0 at the start.
struct BitImage {
  std::int64_t rows = 0, columns = 0;
  std::uint64_t* bits = nullptr;    // [rows + 2, words() + 2]
  std::uint64_t* lines = nullptr;   // [2, words()]
  std::uint8_t* look = nullptr;     // [rows + 2]: which subiterations have to look at a row, a bit each
  std::uint8_t* changed = nullptr;  // [rows]

  RAREPIXEL_INLINE std::int64_t words() const { return (columns + 63) / 64; }
  RAREPIXEL_INLINE std::uint64_t* row(std::int64_t r) const { return bits + (r + 1) * (words() + 2) + 1; }
};

// Thinning (thinning.h) of one image, one byte a pixel in and out.
struct ThinningProblem {
  BitImage bits;
  const std::uint8_t* image = nullptr;  // [rows, columns], not 0: set
  std::uint8_t* skeleton = nullptr;     // [rows, columns], 0 or 1
};

// What lies in the range of each segment of one image.
struct SegmentCountsProblem {
  BitImage bits;
  std::uint64_t* prediction = nullptr;  // [rows, bits.words()], as it was before it is thinned
  std::int64_t image = 0;
  TensorView logits;
  Labels labels;
  Segments segments;
  SegmentCounts* counts = nullptr;  // of the image's segments
};

struct SegmentKernels {
  void (*thin)(const ThinningProblem& problem);
  std::int64_t (*count)(const SegmentCountsProblem& problem);  // returns how many ids are beyond the image's segments
};

// ---- What there is of each instruction set ----

// A loss's reduce and map, on chunks first_chunk ... last_chunk - 1.
template <class Loss, bool kSeesClasses = Loss::kSeesClasses>
struct Kernels {
  void (*reduce)(const Loss& loss, const ReduceProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk);
  void (*map)(const Loss& loss, const MapProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk);
};

template <class Loss>
struct Kernels<Loss, true> {
  // `scratch`: so many bytes for each call.
  std::int64_t (*scratch_bytes)(const ClassProblem& problem);
  void (*reduce)(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
                 void* scratch);
  void (*map)(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
              void* scratch);
};

// Those of all losses of a declaration.
template <class Losses>
struct KernelsOfAll;
template <class... Losses>
struct KernelsOfAll<LossList<Losses...>> : Kernels<Losses>... {};
template <class Declared>
using KernelsOf = KernelsOfAll<typename Declared::Losses>;

// kernels<Table>() is made once an instruction set, in a file that the build makes: Table is KernelsOf<a declaration>
// (kernels.cpp.in), ThresholdKernels or SegmentKernels (shared.cpp.in).
namespace baseline {
template <class Table>
Table kernels();
}  // namespace baseline
namespace avx2 {
template <class Table>
Table kernels();
}  // namespace avx2
namespace avx512 {
template <class Table>
Table kernels();
}  // namespace avx512

}  // namespace rarepixel
