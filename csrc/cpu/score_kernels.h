// Between the two halves of counting and ranking by score: what score_counts.cpp asks of score_counts.h.
#pragma once

#include "../score_counts.h"
#include "kernels.h"

namespace rarepixel {

inline constexpr std::int64_t kMostAtOnce = 1 << 30;  // pixels that 32 bits may count

// What one thread counts. Nearly all pixels are negatives: those are counted in bytes, which stay near the processor,
// and a byte that runs over counts in `carries`.
struct LocalTables {
  std::uint8_t* negatives = nullptr;  // [nodes], as are all
  std::uint32_t* carries = nullptr;
  std::uint32_t* positives = nullptr;
};

// Of the blocks of kBlock pixels from `first` on every step-th one.
struct PixelRange {
  std::int64_t first = 0, last = 0, step = 1;
};

struct PixelCounts {
  std::int64_t counted = 0, positives = 0, invalid = 0;
};

// Different keys in order, and where to look for one: those of bucket b are buckets[b] ... buckets[b + 1] - 1.
template <class Real>
struct RankTable {
  const Key<Real>* keys = nullptr;
  std::uint32_t count = 0;
  const Division* roots = nullptr;  // [kRoots]: how a root is divided into buckets
  const std::uint32_t* buckets = nullptr;
};

template <class Real>
struct ScoreKernels {
  // Both return how many labels are invalid.
  std::int64_t (*count)(const ScoreCountsProblem& problem, const PixelRange& range, const LocalTables& tables);
  std::int64_t (*count_halves)(const ScoreCountsProblem& problem, const PixelRange& range, const LocalTables& tables);

  PixelCounts (*count_pixels)(const Labels& labels, const PixelRange& range);
  void (*collect)(const ScoreCountsProblem& problem, const PixelRange& range, bool positives, Key<Real>* to);
  std::int64_t (*count_gaps)(const ScoreCountsProblem& problem, const RankTable<Real>& table, const PixelRange& range,
                             std::uint64_t* gaps, bool shared);
};

}  // namespace rarepixel
