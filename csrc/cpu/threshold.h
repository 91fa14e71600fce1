// The SIMD half of the search for thresholds (../threshold.h): one pass over the logits of a region's negatives.
//
// Nearly all pixels lie outside the interval that is looked at; comparing and counting bits is all they cost. Pixels at
// its ends are counted apart, so that many equal logits cost no more. Only those inside are taken one by one.
#pragma once

#include "../threshold.h"
#include "blocks.h"

namespace rarepixel::RAREPIXEL_ISA {

// A word of pixels against the interval, one bit a pixel.
struct Place {
  std::uint64_t below_high = 0, at_high = 0, above_low = 0, at_low = 0;
};

template <class Real>
RAREPIXEL_INLINE Place place_of(const Real* logits, Lanes<Real> low, Lanes<Real> high) {
  Place place;
#pragma GCC unroll 4
  for (int i = 0; i < kWord; i += kLanes<Real>) {
    const Lanes<Real> x = load(logits + i);
    place.below_high |= bits_from_mask(x < high) << i;
    place.at_high |= bits_from_mask(x == high) << i;
    place.above_low |= bits_from_mask(low < x) << i;
    place.at_low |= bits_from_mask(x == low) << i;
  }
  return place;
}

template <class Real>
void count_chunk(const RegionProblem& problem, const ThresholdInterval& interval, std::int64_t region,
                 std::int64_t begin, std::int64_t end, ThresholdCounts& counts) {
  alignas(64) Real buffer[kBlock];
  LabelBits bits;
  const LabelRule rule = rule_of(problem.labels, region);
  const Real low = static_cast<Real>(interval.low), high = static_cast<Real>(interval.high);
  const Key<Real> lowest = key_of(low);
  for (std::int64_t block = begin; block < end; block += kBlock) {
    const std::int64_t first = region * problem.regions.pixels + block;
    const int count = static_cast<int>(smaller(kBlock, end - block));
    const Real* logits = read_block(problem.logits, first, count, buffer);
    read_labels<false>(problem.labels, rule, first, count, bits);
    for (int w = 0; w < words_for(count); ++w) {
      prefetch_next(problem, first, w);
      const std::uint64_t negative = bits.counts[w] & ~bits.positive[w];
      const Place place = place_of(logits + w * kWord, Lanes<Real>(low), Lanes<Real>(high));
      const std::uint64_t at_low = negative & place.at_low & ~place.at_high;
      std::uint64_t inside = negative & place.below_high & place.above_low;
      counts.negatives += __builtin_popcountll(negative);
      counts.above += __builtin_popcountll(negative & ~(place.below_high | place.at_high));
      counts.at_high += __builtin_popcountll(negative & place.at_high);
      counts.at_low += __builtin_popcountll(at_low);
      for (; inside != 0; inside &= inside - 1) {
        const Key<Real> key = key_of(logits[w * kWord + __builtin_ctzll(inside)]);
        if (interval.collect) counts.keys[counts.inside] = key;
        else ++counts.bins[(key - lowest) >> interval.shift];
        ++counts.inside;
      }
    }
  }
}

template <class Real>
void count_chunks(const RegionProblem& problem, const ThresholdInterval& interval, std::int64_t first_chunk,
                  std::int64_t last_chunk, ThresholdCounts& counts) {
  for_each_chunk(problem.regions, first_chunk, last_chunk,
                 [&](std::int64_t, std::int64_t region, std::int64_t begin, std::int64_t end) {
                   count_chunk<Real>(problem, interval, region, begin, end, counts);
                 });
}

// Steele, Lea and Flood's finaliser (SplitMix64): numbers without a pattern.
RAREPIXEL_INLINE std::uint64_t scrambled(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// One piece from each of kSamplePieces equal parts of the region, at a place without a pattern: no regular structure of
// an image can hide from it. The region has at least kSampleSize pixels.
template <class Real>
int sample_region(const RegionProblem& problem, std::int64_t region, double* to) {
  alignas(64) Real buffer[kWord];
  LabelBits bits;
  const LabelRule rule = rule_of(problem.labels, region);
  const std::int64_t part = problem.regions.pixels / kSamplePieces;
  int taken = 0;
  for (std::int64_t p = 0; p < kSamplePieces; ++p) {
    const std::uint64_t room = static_cast<std::uint64_t>(part - kPieceSize + 1);
    const std::int64_t begin = p * part + static_cast<std::int64_t>(scrambled(0x9e3779b97f4a7c15u * (p + 1)) % room);
    const std::int64_t first = region * problem.regions.pixels + begin;
    const Real* logits = read_block(problem.logits, first, kPieceSize, buffer);
    read_labels<false>(problem.labels, rule, first, kPieceSize, bits);
    for (std::uint64_t rest = bits.counts[0] & ~bits.positive[0]; rest != 0; rest &= rest - 1) {
      to[taken++] = static_cast<double>(logits[__builtin_ctzll(rest)]);
    }
  }
  return taken;
}

template <>
ThresholdKernels<float> kernels<ThresholdKernels<float>>() {
  return {&count_chunks<float>, &sample_region<float>};
}
template <>
ThresholdKernels<double> kernels<ThresholdKernels<double>>() {
  return {&count_chunks<double>, &sample_region<double>};
}

}  // namespace rarepixel::RAREPIXEL_ISA
