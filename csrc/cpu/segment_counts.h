// The SIMD half of comparing segments: what lies in the range of each segment of one image.
#pragma once

#include "../losses/segment_thickness.h"
#include "thinning.h"

namespace rarepixel::RAREPIXEL_ISA {

// Calls run(first pixel, columns, readable) for the pieces of a row that fit into a block. `readable` pixels may be
// read from there: whole words, which are read where they lie, even if they reach into the next row.
template <class Run>
RAREPIXEL_INLINE void for_each_piece(const SegmentCountsProblem& problem, std::int64_t row, const Run& run) {
  const std::int64_t columns = problem.bits.columns;
  const std::int64_t row_begin = row * columns, image_end = problem.bits.rows * columns;
  for (std::int64_t column = 0; column < columns; column += kBlock) {
    const std::int64_t begin = row_begin + column, count = smaller(kBlock, columns - column);
    run(problem.image * image_end + begin, static_cast<int>(count),
        static_cast<int>(smaller(words_for(count) * kWord, image_end - begin)));
  }
}

// The hard prediction, p >= 1/2, of a row; a NaN predicts nothing.
template <class Real>
void predict_row(const SegmentCountsProblem& problem, std::int64_t row) {
  using V = Lanes<Real>;
  alignas(64) Real buffer[kBlock];
  std::uint64_t* word = problem.bits.row(row);
  for_each_piece(problem, row, [&](std::int64_t first, int count, int readable) {
    const Real* logits = read_block(problem.logits, first, readable, buffer);
    for (int left = count; left > 0; left -= kWord, logits += kWord) {
      std::uint64_t bits = 0;
#pragma GCC unroll 4
      for (int i = 0; i < kWord; i += kLanes<Real>) {
        const V x = load(logits + i);
        bits |= bits_from_mask((V(Real(0)) < x) | (x == V(Real(0)))) << i;
      }
      *word++ = left < kWord ? bits & ((std::uint64_t(1) << left) - 1) : bits;
    }
  });
  memcpy(problem.prediction + row * problem.bits.words(), problem.bits.row(row),
         problem.bits.words() * sizeof(std::uint64_t));
}

// The ids of a word of pixels, 0 beyond the row.
struct WordOfIds {
  alignas(64) std::uint32_t segment[kWord];  // counted from 1; 0: none
  std::uint32_t largest = 0;
  std::uint64_t skeleton;  // of the annotation, a bit a pixel

  WordOfIds(const std::int32_t* ids, int count) {
    alignas(64) std::int32_t copy[kWord] = {};
    memcpy(copy, ids, count * sizeof(std::int32_t));
    alignas(64) std::uint8_t negative[kWord];
    for (int i = 0; i < kWord; ++i) {
      segment[i] = magnitude(copy[i]);
      largest = segment[i] > largest ? segment[i] : largest;
      negative[i] = copy[i] < 0;
    }
    skeleton = bits_from_bytes(negative, 1);
  }

  std::uint64_t pixels_of(std::uint32_t number) const {
    alignas(64) std::uint8_t same[kWord];
    for (int i = 0; i < kWord; ++i) same[i] = segment[i] == number;
    return bits_from_bytes(same, 1);
  }
};

// Returns how many of a row's ids are beyond the image's segments.
inline std::int64_t count_row(const SegmentCountsProblem& problem, std::int64_t row) {
  const std::int64_t* starts = problem.segments.starts + problem.image;
  const std::int64_t segments = starts[1] - starts[0];
  const LabelRule rule = rule_of(problem.labels, problem.image);
  const std::uint64_t* predicted_skeleton = problem.bits.row(row);
  const std::uint64_t* predicted = problem.prediction + row * problem.bits.words();
  LabelBits labels;
  std::int64_t unknown = 0;
  for_each_piece(problem, row, [&](std::int64_t first, int count, int readable) {
    const std::int32_t* ids = static_cast<const std::int32_t*>(problem.segments.ids.data) + first;
    bool labels_are_read = false;
    for (int w = 0; w < words_for(count); ++w, ++predicted, ++predicted_skeleton) {
      const WordOfIds word(ids + w * kWord, static_cast<int>(smaller(kWord, count - w * kWord)));
      if (word.largest == 0) continue;
      if (word.largest > segments) {
        for (int i = 0; i < kWord; ++i) unknown += word.segment[i] > segments;
        continue;
      }
      if (!labels_are_read) read_labels<false>(problem.labels, rule, first, readable, labels);
      labels_are_read = true;
      // One segment after the other: neighbours mostly belong to the same.
      std::uint64_t rest = labels.counts[w] & ~word.pixels_of(0);
      while (rest != 0) {
        const std::uint32_t number = word.segment[__builtin_ctzll(rest)];
        const std::uint64_t pixels = rest & word.pixels_of(number);
        SegmentCounts& counts = problem.counts[number - 1];
        counts.annotated_skeleton += __builtin_popcountll(pixels & word.skeleton);
        counts.annotated += __builtin_popcountll(pixels & labels.positive[w]);
        counts.predicted_skeleton += __builtin_popcountll(pixels & *predicted_skeleton);
        counts.predicted += __builtin_popcountll(pixels & *predicted);
        rest &= ~pixels;
      }
    }
  });
  return unknown;
}

inline std::int64_t count_in_segments(const SegmentCountsProblem& problem) {
  for (std::int64_t r = 0; r < problem.bits.rows; ++r) {
    if (problem.logits.dtype == DType::kFloat64) predict_row<double>(problem, r);
    else predict_row<float>(problem, r);
  }
  thin_bits(problem.bits);
  std::int64_t unknown = 0;
  for (std::int64_t r = 0; r < problem.bits.rows; ++r) unknown += count_row(problem, r);
  return unknown;
}

template <>
SegmentKernels kernels<SegmentKernels>() {
  return {&thin_image, &count_in_segments};
}

}  // namespace rarepixel::RAREPIXEL_ISA
