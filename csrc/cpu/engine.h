// The SIMD half of the CPU engine: runs any loss over chunks of pixels, for one instruction set.
//
// pixel_block.h brings a block of pixels into plain form; the loss runs over it in lanes; this file alone knows both.
// No torch and no std containers here: their weak functions would carry this instruction set into other files.
#pragma once

#include "pixel_block.h"

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

// Adds the pixels at w * kWord + i to the sums, with the inputs that the loss asks for; returns which of them count or, of
// a loss that drops pixels, are kept.
template <class Loss, class Real>
RAREPIXEL_INLINE Mask<Real> accumulate(const Loss& loss, const Pixel<Lanes<Real>>& pixel,
                                       const PixelBlock<Real>& pixels, int at,
                                       [[maybe_unused]] const Lanes<Real>* found, Lanes<Real> (&sums)[Loss::kNumSums]) {
  using V = Lanes<Real>;
  if constexpr (Loss::kWeighsPixels) {
    const V weight = load(pixels.weights + at);
    V once[Loss::kNumSums];
    for (V& sum : once) sum = V(Real(0));
    const Mask<Real> kept =
        accumulate(static_cast<const typename Loss::Unweighted&>(loss), pixel, pixels, at, found, once);
    for (int s = 0; s < Loss::kNumSums; ++s) sums[s] = add_where(pixel.counts, sums[s], weight * once[s]);
    return kept;
  } else if constexpr (Loss::kDropsPixels) {
    return loss.accumulate(pixel, load(pixels.uniform + at), sums);
  } else {
    if constexpr (Loss::kNumFound > 0) loss.accumulate(pixel, found, sums);
    else if constexpr (kHasNumber<Loss>) loss.accumulate(pixel, load(pixels.numbers + at), sums);
    else loss.accumulate(pixel, sums);
    return pixel.counts;
  }
}

template <class Loss, class Real>
void reduce_chunk(const Loss& loss, const ReduceProblem& problem, std::int64_t region, std::int64_t begin,
                  std::int64_t end, double* totals) {
  using V = Lanes<Real>;
  using Table = RegionTable<Loss>;
  PixelReader<Loss, Real> reader;
  const LabelRule rule = rule_of(problem.labels, region);
  for (int s = 0; s <= Loss::kNumSums; ++s) totals[s] = 0;
  [[maybe_unused]] V found[Loss::kNumFound + 1];
  for (int i = 0; i < Loss::kNumFound; ++i) {
    found[i] = V(static_cast<Real>(problem.table[region * Table::kColumns + Table::kFound + i]));
  }

  for (std::int64_t block = begin; block < end; block += kBlock) {
    const std::int64_t first = region * problem.regions.pixels + block;
    const int count = static_cast<int>(smaller(kBlock, end - block));
    const PixelBlock<Real> pixels = reader.read(problem, rule, region, block, count);
    totals[Loss::kNumSums] += static_cast<double>(pixels.invalid);

    V sums[Loss::kNumSums];
    for (V& sum : sums) sum = V(Real(0));
    for (int w = 0; w < words_for(count); ++w) {
      prefetch_next(problem, first, w);
      with_positives(
          pixels.positive[w], [&](auto positives) __attribute__((always_inline)) {
            std::uint64_t kept_bits = 0;
#pragma GCC unroll 4
            for (int i = 0; i < kWord; i += kLanes<Real>) {
              const Pixel<V> pixel = pixels.pixel(w, i, positives() >> i);
              const Mask<Real> kept = accumulate(loss, pixel, pixels, w * kWord + i, found, sums);
              if constexpr (Loss::kDropsPixels) kept_bits |= bits_from_mask(kept) << i;
            }
            if constexpr (Loss::kDropsPixels) pixels.kept[w] = kept_bits;
          });
    }
    add_lanes(sums, totals);
  }
}

template <class Loss, class Real>
void map_chunk(const Loss& loss, const MapProblem& problem, std::int64_t region, std::int64_t begin, std::int64_t end) {
  using V = Lanes<Real>;
  using Table = RegionTable<Loss>;
  PixelReader<Loss, Real> reader;
  alignas(64) Real gradient_buffer[kBlock];

  const double* row = problem.table + region * Table::kColumns;
  V coefficients[Loss::kNumCoefficients];
  for (int i = 0; i < Loss::kNumCoefficients; ++i) {
    coefficients[i] = V(static_cast<Real>(row[Table::kCoefficients + i]));
  }
  const std::int64_t group = problem.upstream_per_group ? region / problem.regions.of_group : 0;
  const Real upstream = read_element<Real>(problem.upstream, group);
  const V scale(static_cast<Real>(row[Table::kScale] * static_cast<double>(upstream)));
  const bool in_place = is_straight(problem.gradient, kDTypeOf<Real>);
  const LabelRule rule = rule_of(problem.labels, region);

  for (std::int64_t block = begin; block < end; block += kBlock) {
    const std::int64_t first = region * problem.regions.pixels + block;
    const int count = static_cast<int>(smaller(kBlock, end - block));
    const PixelBlock<Real> pixels = reader.read(problem, rule, region, block, count);
    const bool directly = in_place && count % kWord == 0;
    Real* gradient = directly ? static_cast<Real*>(problem.gradient.data) + first : gradient_buffer;

    for (int w = 0; w < words_for(count); ++w) {
      prefetch_next(problem, first, w);
      if (pixels.counts[w] == 0) {
        for (int i = 0; i < kWord; i += kLanes<Real>) store(gradient + w * kWord + i, V(Real(0)));
        continue;
      }
      with_positives(
          pixels.positive[w], [&](auto positives) __attribute__((always_inline)) {
#pragma GCC unroll 4
            for (int i = 0; i < kWord; i += kLanes<Real>) {
              const Pixel<V> pixel = pixels.pixel(w, i, positives() >> i);
              V slope;
              if constexpr (kHasNumber<Loss>) {
                slope = loss.gradient(pixel, load(pixels.numbers + w * kWord + i), coefficients);
              } else {
                slope = loss.gradient(pixel, coefficients);
              }
              if constexpr (Loss::kWeighsPixels) slope = load(pixels.weights + w * kWord + i) * slope;
              store(gradient + w * kWord + i, select(pixel.counts, scale * slope, V(Real(0))));
            }
          });
    }
    if (!directly) write_block(problem.gradient, first, count, gradient);
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

}  // namespace rarepixel::RAREPIXEL_ISA
