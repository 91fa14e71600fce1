// Between the two halves of the CPU engine: what the torch side (launch.h) asks of the SIMD side (engine.h).
//
// The SIMD side is compiled once per instruction set and sees raw pointers only.
#pragma once

#include <cstdint>

#include "../problem.h"

namespace rarepixel {

struct SegmentCounts;  // segment_thickness.h

inline constexpr int kBlock = 2048;  // pixels worked on at a time: the buffers of a block stay in the first cache

// Regions are runs of region_pixels pixels. A region is cut into chunks, the same for every number of threads, and a
// chunk is worked on by one thread.
struct Regions {
  std::int64_t count = 0;
  std::int64_t pixels = 0;
  std::int64_t chunk_pixels = 0;  // a multiple of kBlock
  std::int64_t chunks = 0;        // per region
  std::int64_t of_group = 1;      // how many of them share one value (region.h)
  std::int64_t logits = 1;        // of each pixel: how much work it is
};

struct ReduceProblem {
  Regions regions;
  TensorView logits;
  Labels labels;
  Segments segments;   // for losses that weigh segments
  TensorView uniform;  // absent: the numbers of `seed`
  std::uint64_t seed = 0;
  std::uint64_t* kept = nullptr;   // [regions, ceil(pixels / 64)], one bit a pixel; for losses that drop pixels
  const double* table = nullptr;   // [regions, RegionTable<Loss>::kColumns], for losses with selected numbers
  double* partial_sums = nullptr;  // [regions, chunks, kNumSums + 1]
};

struct MapProblem {
  Regions regions;
  TensorView logits;
  Labels labels;  // without mask and ignore_index for losses that drop pixels: `kept` tells what counts
  Segments segments;
  const std::uint64_t* kept = nullptr;
  const double* table = nullptr;  // [regions, RegionTable<Loss>::kColumns]
  TensorView upstream;            // [groups] or, one for all, [1]
  bool upstream_per_group = false;
  TensorView gradient;  // the logits' dtype
};

// A loss over a softmax: regions are images, or with one_region the batch; each class of one has a row of the table.
struct ClassProblem {
  Regions images;
  int classes = 0;
  ClassLabels label_kind = ClassLabels::kIndexMap;
  bool one_region = false;
  TensorView logits;
  Labels labels;                   // an index map with its mask [N, 1, *], others [N, C, *]
  double* partial_sums = nullptr;  // reduce: [regions * classes, chunks of a region, kNumSums + 1]
  const double* table = nullptr;   // map: [regions * classes, RegionTable<Loss>::kColumns]
  TensorView upstream;             // [regions] or, one for all, [1]
  bool upstream_per_group = false;
  TensorView gradient;

  RAREPIXEL_INLINE std::int64_t regions() const { return one_region ? 1 : images.count; }
  RAREPIXEL_INLINE std::int64_t chunks_of_region() const { return images.chunks * (one_region ? images.count : 1); }
  RAREPIXEL_INLINE double* partial_sums_of(std::int64_t chunk, int k, int sums) const {
    const std::int64_t of_region = chunks_of_region(), row = chunk / of_region * classes + k;
    return partial_sums + (row * of_region + chunk % of_region) * sums;
  }
};

// One pass of a selection (select.h) over the negatives of some chunks.
struct SelectProblem {
  Regions regions;
  TensorView logits;
  Labels labels;
};

// What a pass looks at: the closed interval low ... high. Keys inside are counted by (key - key of low) >> shift, or
// collected if there are few enough.
struct SelectInterval {
  double low = 0, high = 0;  // hold a float exactly
  int shift = 0;
  bool collect = false;  // at most SelectCounts::kBins keys are inside
};

struct SelectCounts {
  static constexpr int kBins = 2048;
  std::int64_t negatives = 0;
  std::int64_t above = 0;  // beyond high, every NaN included
  std::int64_t at_high = 0;
  std::int64_t at_low = 0;  // unless low is high
  std::int64_t inside = 0;
  std::int64_t bins[kBins] = {};  // of those inside
  std::uint64_t keys[kBins];      // or these themselves
};

struct SelectKernels {
  void (*count)(const SelectProblem& problem, const SelectInterval& interval, std::int64_t first_chunk,
                std::int64_t last_chunk, SelectCounts& counts);
  // Some of a region's negatives from everywhere in it, into to[0 .. kSampleSize); returns how many.
  int (*sample)(const SelectProblem& problem, std::int64_t region, double* to);
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

  std::int64_t words() const { return (columns + 63) / 64; }
  std::uint64_t* row(std::int64_t r) const { return bits + (r + 1) * (words() + 2) + 1; }
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

template <class Loss>
struct Kernels {
  void (*reduce)(const Loss& loss, const ReduceProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk);
  void (*map)(const Loss& loss, const MapProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk);
};

template <class Loss>
struct ClassKernels {
  // `scratch`: so many bytes for each call.
  std::int64_t (*scratch_bytes)(const ClassProblem& problem);
  void (*reduce)(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
                 void* scratch);
  void (*map)(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
              void* scratch);
};

// One copy per instruction set, made in isa_<name>.cpp.
namespace baseline {
template <class Loss>
Kernels<Loss> kernels();
template <class Loss>
ClassKernels<Loss> class_kernels();
SelectKernels select_kernels(DType logits);
SegmentKernels segment_kernels();
}  // namespace baseline
namespace avx2 {
template <class Loss>
Kernels<Loss> kernels();
template <class Loss>
ClassKernels<Loss> class_kernels();
SelectKernels select_kernels(DType logits);
SegmentKernels segment_kernels();
}  // namespace avx2
namespace avx512 {
template <class Loss>
Kernels<Loss> kernels();
template <class Loss>
ClassKernels<Loss> class_kernels();
SelectKernels select_kernels(DType logits);
SegmentKernels segment_kernels();
}  // namespace avx512

}  // namespace rarepixel
