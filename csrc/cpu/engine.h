// The SIMD half of the CPU engine: runs any loss over chunks of pixels, for one instruction set (isa_*.cpp).
//
// blocks.h brings a block of pixels into plain form; the loss runs over it in lanes, and this file alone knows both.
// No torch and no std containers here: their weak functions would carry this instruction set into other files.
#pragma once

#include "../region.h"
#include "blocks.h"

namespace rarepixel::RAREPIXEL_ISA {

// Adds each sum's lanes to its total. Lanes hold the sums of one block; totals go from block to block in double.
template <int kNumSums, class Real>
RAREPIXEL_INLINE void add_lanes(const Lanes<Real> (&sums)[kNumSums], double* totals) {
  for (int s = 0; s < kNumSums; ++s) {
    alignas(64) Real lanes[kLanes<Real>];
    store(lanes, sums[s]);
    double pairs[kLanes<Real> / 2];
    for (int i = 0; i < kLanes<Real> / 2; ++i) {
      pairs[i] = static_cast<double>(lanes[i]) + static_cast<double>(lanes[i + kLanes<Real> / 2]);
    }
    double sum = 0;
    for (int i = 0; i < kLanes<Real> / 2; ++i) sum += pairs[i];
    totals[s] += sum;
  }
}

// Calls run(the bits) with the constant 0 where no pixel of the word is positive: the usual word, as positives are
// rare, and one from whose loop the compiler takes everything that positives need.
template <class Run>
RAREPIXEL_INLINE void with_positives(std::uint64_t positive, const Run& run) {
  if (positive == 0) run([]() __attribute__((always_inline)) { return std::uint64_t(0); });
  else run([positive]() __attribute__((always_inline)) { return positive; });
}

// Where the kept bits of a block begin: every region has whole words of its own.
RAREPIXEL_INLINE std::int64_t first_kept_word(const Regions& regions, std::int64_t region, std::int64_t block) {
  return region * ((regions.pixels + kWord - 1) / kWord) + block / kWord;
}

template <class Loss, class Real>
void reduce_chunk(const Loss& loss, const ReduceProblem& problem, std::int64_t region, std::int64_t begin,
                  std::int64_t end, double* totals) {
  using V = Lanes<Real>;
  using Table = RegionTable<Loss>;
  alignas(64) Real logit_buffer[kBlock];
  alignas(64) Real uniform_buffer[kBlock + kUniformSlack];
  [[maybe_unused]] alignas(64) Real of_pixels[kHasNumber<Loss> ? kBlock : 1];
  LabelBits bits;
  const LabelRule rule = rule_of(problem.labels, region);
  for (int s = 0; s <= Loss::kNumSums; ++s) totals[s] = 0;
  [[maybe_unused]] V selected[Loss::kNumSelected + 1];
  for (int i = 0; i < Loss::kNumSelected; ++i) {
    selected[i] = V(static_cast<Real>(problem.table[region * Table::kColumns + Table::kSelected + i]));
  }

  for (std::int64_t block = begin; block < end; block += kBlock) {
    const std::int64_t first = region * problem.regions.pixels + block;
    const int count = static_cast<int>(smaller(kBlock, end - block));
    const Real* logits = read_block(problem.logits, first, count, logit_buffer);
    std::int64_t invalid;
    if constexpr (Loss::kSoftLabels) invalid = read_soft_labels(problem.labels, first, count, of_pixels, bits);
    else invalid = read_labels(problem.labels, rule, first, count, bits);
    totals[Loss::kNumSums] += static_cast<double>(invalid);
    [[maybe_unused]] const Real* uniform = nullptr;
    [[maybe_unused]] std::uint64_t* kept = nullptr;
    if constexpr (Loss::kDropsPixels) {
      uniform = read_uniform(problem, first, count, uniform_buffer);
      kept = problem.kept + first_kept_word(problem.regions, region, block);
    }
    if constexpr (Loss::kWeighsSegments) read_segment_weights(problem.segments, region, first, count, of_pixels);

    V sums[Loss::kNumSums];
    for (V& sum : sums) sum = V(Real(0));
    for (int w = 0; w < words_for(count); ++w) {
      prefetch_word(problem.logits, first + kBlock + w * kWord);
      prefetch_word(problem.labels.target, first + kBlock + w * kWord);
      with_positives(
          bits.positive[w], [&](auto positives) __attribute__((always_inline)) {
            std::uint64_t kept_bits = 0;
#pragma GCC unroll 4
            for (int i = 0; i < kWord; i += kLanes<Real>) {
              const Pixel<V> pixel{load(logits + w * kWord + i), mask_from_bits<Real>(positives() >> i),
                                   mask_from_bits<Real>(bits.counts[w] >> i)};
              if constexpr (Loss::kDropsPixels) {
                kept_bits |= bits_from_mask(loss.accumulate(pixel, load(uniform + w * kWord + i), sums)) << i;
              } else if constexpr (Loss::kNumSelected > 0) {
                loss.accumulate(pixel, selected, sums);
              } else if constexpr (kHasNumber<Loss>) {
                loss.accumulate(pixel, load(of_pixels + w * kWord + i), sums);
              } else {
                loss.accumulate(pixel, sums);
              }
            }
            if constexpr (Loss::kDropsPixels) kept[w] = kept_bits;
          });
    }
    add_lanes(sums, totals);
  }
}

template <class Loss, class Real>
void map_chunk(const Loss& loss, const MapProblem& problem, std::int64_t region, std::int64_t begin, std::int64_t end) {
  using V = Lanes<Real>;
  using Table = RegionTable<Loss>;
  alignas(64) Real logit_buffer[kBlock];
  alignas(64) Real gradient_buffer[kBlock];
  [[maybe_unused]] alignas(64) Real of_pixels[kHasNumber<Loss> ? kBlock : 1];
  LabelBits bits;

  const double* row = problem.table + region * Table::kColumns;
  V coefficients[Loss::kNumCoefficients];
  for (int i = 0; i < Loss::kNumCoefficients; ++i) {
    coefficients[i] = V(static_cast<Real>(row[Table::kCoefficients + i]));
  }
  Real upstream;
  read_as<Real>(problem.upstream, problem.upstream_per_group ? region / problem.regions.of_group : 0, 1, &upstream);
  const V scale(static_cast<Real>(row[Table::kScale] * static_cast<double>(upstream)));
  const bool in_place = is_straight(problem.gradient, kDTypeOf<Real>);
  const LabelRule rule = rule_of(problem.labels, region);

  for (std::int64_t block = begin; block < end; block += kBlock) {
    const std::int64_t first = region * problem.regions.pixels + block;
    const int count = static_cast<int>(smaller(kBlock, end - block));
    const Real* logits = read_block(problem.logits, first, count, logit_buffer);
    if constexpr (Loss::kDropsPixels) {
      read_positives(problem.labels, rule, first, count, bits.positive);
      const std::uint64_t* kept = problem.kept + first_kept_word(problem.regions, region, block);
      for (int w = 0; w < words_for(count); ++w) bits.counts[w] = kept[w];
    } else if constexpr (Loss::kSoftLabels) {
      read_soft_labels(problem.labels, first, count, of_pixels, bits);
    } else {
      read_labels(problem.labels, rule, first, count, bits);
    }
    if constexpr (Loss::kWeighsSegments) read_segment_weights(problem.segments, region, first, count, of_pixels);
    const bool directly = in_place && count % kWord == 0;
    Real* gradient = directly ? static_cast<Real*>(problem.gradient.data) + first : gradient_buffer;

    for (int w = 0; w < words_for(count); ++w) {
      prefetch_word(problem.logits, first + kBlock + w * kWord);
      prefetch_word(problem.labels.target, first + kBlock + w * kWord);
      if (bits.counts[w] == 0) {
        for (int i = 0; i < kWord; i += kLanes<Real>) store(gradient + w * kWord + i, V(Real(0)));
        continue;
      }
      with_positives(
          bits.positive[w], [&](auto positives) __attribute__((always_inline)) {
#pragma GCC unroll 4
            for (int i = 0; i < kWord; i += kLanes<Real>) {
              const Pixel<V> pixel{load(logits + w * kWord + i), mask_from_bits<Real>(positives() >> i),
                                   mask_from_bits<Real>(bits.counts[w] >> i)};
              V slope;
              if constexpr (kHasNumber<Loss>) {
                slope = loss.gradient(pixel, load(of_pixels + w * kWord + i), coefficients);
              } else {
                slope = loss.gradient(pixel, coefficients);
              }
              store(gradient + w * kWord + i, select(pixel.counts, scale * slope, V(Real(0))));
            }
          });
    }
    if (!directly) write_block(problem.gradient, first, count, gradient);
  }
}

// Calls run(region, first pixel, last pixel) for each chunk of the range.
template <class Run>
RAREPIXEL_INLINE void for_each_chunk(const Regions& regions, std::int64_t first, std::int64_t last, const Run& run) {
  for (std::int64_t chunk = first; chunk < last; ++chunk) {
    const std::int64_t begin = chunk % regions.chunks * regions.chunk_pixels;
    run(chunk, chunk / regions.chunks, begin, smaller(begin + regions.chunk_pixels, regions.pixels));
  }
}

template <class Loss>
void reduce(const Loss& loss, const ReduceProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk) {
  const bool as_double = problem.logits.dtype == DType::kFloat64;
  for_each_chunk(problem.regions, first_chunk, last_chunk,
                 [&](std::int64_t chunk, std::int64_t region, std::int64_t begin, std::int64_t end) {
                   double* totals = problem.partial_sums + chunk * (Loss::kNumSums + 1);
                   if (as_double) reduce_chunk<Loss, double>(loss, problem, region, begin, end, totals);
                   else reduce_chunk<Loss, float>(loss, problem, region, begin, end, totals);
                 });
}

template <class Loss>
void map(const Loss& loss, const MapProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk) {
  const bool as_double = problem.logits.dtype == DType::kFloat64;
  for_each_chunk(problem.regions, first_chunk, last_chunk,
                 [&](std::int64_t, std::int64_t region, std::int64_t begin, std::int64_t end) {
                   if (as_double) map_chunk<Loss, double>(loss, problem, region, begin, end);
                   else map_chunk<Loss, float>(loss, problem, region, begin, end);
                 });
}

template <class Loss>
Kernels<Loss> kernels() {
  return {&reduce<Loss>, &map<Loss>};
}

}  // namespace rarepixel::RAREPIXEL_ISA
