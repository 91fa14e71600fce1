// The SIMD half of counting by score (../score_counts.h), and of ranking negatives among positives (score_counts.cpp).
#pragma once

#include "../score_counts.h"
#include "elements.h"
#include "score_kernels.h"

namespace rarepixel::RAREPIXEL_ISA {

// ---- Keys of a block ----

// Keys of `count` pixels and some more up to a whole word.
template <class Real>
RAREPIXEL_INLINE void keys_of_block(const TensorView& scores, std::int64_t first, int count, Key<Real>* keys) {
  alignas(64) Real buffer[kBlock];
  const Real* from = read_block(scores, first, count, buffer);
  for (int i = 0; i < words_for(count) * kWord; ++i) keys[i] = key_of(from[i]);
}

// The bits of halves as they are: an index.
inline void bits_of_block(const TensorView& scores, std::int64_t first, int count, std::uint16_t* bits) {
  const std::uint16_t* from = static_cast<const std::uint16_t*>(scores.data);
  for_each_run(scores, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) bits[i] = from[offset + i * stride];
    bits += length;
  });
}

// Calls run(first pixel, pixels) for every step-th block of a range.
template <class Run>
RAREPIXEL_INLINE void for_each_block(const PixelRange& range, const Run& run) {
  for (std::int64_t first = range.first; first < range.last; first += range.step * kBlock) {
    run(first, static_cast<int>(smaller(kBlock, range.last - first)));
  }
}

// Calls run(i) for the bits that are set, of word w of a block.
template <class Run>
RAREPIXEL_INLINE void for_each_bit(std::uint64_t bits, int w, const Run& run) {
  for (; bits != 0; bits &= bits - 1) run(w * kWord + __builtin_ctzll(bits));
}

// ---- Counts of nodes ----

// Adds a block's pixels, each with its place in the two tables. Places are made first, a word at a time: a processor
// that does not know yet whether two places are the same would make the next one wait.
template <class PlaceOf>
RAREPIXEL_INLINE void count_block(const ScoreCountsProblem& problem, const LabelBits& bits, std::int64_t first,
                                  int count, const LocalTables& tables, const PlaceOf& place_of) {
  const auto count_negative = [&](std::uint32_t place) {
    if (++tables.negatives[place] == 0) ++tables.carries[place];
  };
  std::uint32_t places[kWord];
  for (int w = 0; w < words_for(count); ++w) {
    prefetch_word(problem.scores, first + kBlock + w * kWord);
    const std::uint64_t positive = bits.counts[w] & bits.positive[w];
    if (bits.counts[w] == ~std::uint64_t(0) && positive == 0) {  // as nearly all are
#pragma GCC unroll 4
      for (int i = 0; i < kWord; ++i) places[i] = place_of(w * kWord + i);
#pragma GCC unroll 4
      for (int i = 0; i < kWord; ++i) count_negative(places[i]);
      continue;
    }
    for_each_bit(bits.counts[w] & ~positive, w, [&](int i) { count_negative(place_of(i)); });
    for_each_bit(positive, w, [&](int i) { ++tables.positives[place_of(i)]; });
  }
}

template <class Real>
std::int64_t count_range(const ScoreCountsProblem& problem, const PixelRange& range, const LocalTables& tables) {
  alignas(64) Key<Real> keys[kBlock];
  LabelBits bits;
  std::int64_t invalid = 0;
  const ScoreNodes nodes = problem.nodes;
  for_each_block(range, [&](std::int64_t first, int count) {
    invalid += read_labels<true>(problem.labels, {}, first, count, bits);
    keys_of_block<Real>(problem.scores, first, count, keys);
    count_block(problem, bits, first, count, tables, [&](int i) { return node_of<Real>(nodes, keys[i]); });
  });
  return invalid;
}

inline std::int64_t count_halves(const ScoreCountsProblem& problem, const PixelRange& range,
                                 const LocalTables& tables) {
  alignas(64) std::uint16_t indices[kBlock];
  LabelBits bits;
  std::int64_t invalid = 0;
  for_each_block(range, [&](std::int64_t first, int count) {
    invalid += read_labels<true>(problem.labels, {}, first, count, bits);
    bits_of_block(problem.scores, first, count, indices);
    count_block(problem, bits, first, count, tables, [&](int i) { return indices[i]; });
  });
  return invalid;
}

// ---- Ranks ----

inline PixelCounts count_pixels(const Labels& labels, const PixelRange& range) {
  LabelBits bits;
  PixelCounts counts;
  for_each_block(range, [&](std::int64_t first, int count) {
    counts.invalid += read_labels<true>(labels, {}, first, count, bits);
    for (int w = 0; w < words_for(count); ++w) {
      counts.counted += __builtin_popcountll(bits.counts[w]);
      counts.positives += __builtin_popcountll(bits.counts[w] & bits.positive[w]);
    }
  });
  return counts;
}

// Keys of the positives of a range, or of its negatives.
template <class Real>
void collect_keys(const ScoreCountsProblem& problem, const PixelRange& range, bool positives, Key<Real>* to) {
  alignas(64) Key<Real> keys[kBlock];
  LabelBits bits;
  for_each_block(range, [&](std::int64_t first, int count) {
    read_labels<false>(problem.labels, {}, first, count, bits);
    std::uint64_t any = 0;
    for (int w = 0; w < words_for(count); ++w) {
      bits.positive[w] = bits.counts[w] & (positives ? bits.positive[w] : ~bits.positive[w]);
      any |= bits.positive[w];
    }
    if (any == 0) return;
    keys_of_block<Real>(problem.scores, first, count, keys);
    for (int w = 0; w < words_for(count); ++w) {
      for_each_bit(bits.positive[w], w, [&](int i) { *to++ = keys[i]; });
    }
  });
}

// Twice the number of the keys that are below, plus one if the key itself is among them.
template <class Real>
RAREPIXEL_INLINE std::int64_t gap_of(const RankTable<Real>& table, Key<Real> key) {
  const std::uint32_t bucket = table.roots[root_of<Real>(key)].node_of(key);
  std::uint32_t low = table.buckets[bucket], high = table.buckets[bucket + 1];
  while (high - low > 8) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (table.keys[middle] < key) low = middle + 1;
    else high = middle;
  }
  while (low < high && table.keys[low] < key) ++low;
  return 2 * static_cast<std::int64_t>(low) + (low < table.count && table.keys[low] == key ? 1 : 0);
}

template <class Real, class Add>
void for_each_gap(const ScoreCountsProblem& problem, const RankTable<Real>& table, const PixelRange& range,
                  const Add& add) {
  alignas(64) Key<Real> keys[kBlock];
  LabelBits bits;
  for_each_block(range, [&](std::int64_t first, int count) {
    read_labels<false>(problem.labels, {}, first, count, bits);
    keys_of_block<Real>(problem.scores, first, count, keys);
    for (int w = 0; w < words_for(count); ++w) {
      for_each_bit(bits.counts[w] & ~bits.positive[w], w, [&](int i) { add(gap_of(table, keys[i]), keys[i]); });
    }
  });
}

// Adds the negatives of a range to `gaps`; of several threads to the same ones, if they are shared. Returns how many
// are NaN.
template <class Real>
std::int64_t count_gaps(const ScoreCountsProblem& problem, const RankTable<Real>& table, const PixelRange& range,
                        std::uint64_t* gaps, bool shared) {
  std::int64_t nans = 0;
  if (shared) {
    for_each_gap(problem, table, range, [&](std::int64_t gap, Key<Real> key) {
      __atomic_fetch_add(gaps + gap, std::uint64_t(1), __ATOMIC_RELAXED);
      nans += key == kHighestKey<Real>;
    });
  } else {
    for_each_gap(problem, table, range, [&](std::int64_t gap, Key<Real> key) {
      ++gaps[gap];
      nans += key == kHighestKey<Real>;
    });
  }
  return nans;
}

template <>
ScoreKernels<float> kernels<ScoreKernels<float>>() {
  return {&count_range<float>, &count_halves, &count_pixels, &collect_keys<float>, &count_gaps<float>};
}
template <>
ScoreKernels<double> kernels<ScoreKernels<double>>() {
  return {&count_range<double>, &count_halves, &count_pixels, &collect_keys<double>, &count_gaps<double>};
}

}  // namespace rarepixel::RAREPIXEL_ISA
