// A block of pixels with everything that a loss may ask of them: the one place that reads what engine.h's losses see.
#pragma once

#include "../region.h"
#include "blocks.h"
#include "random.h"

namespace rarepixel::RAREPIXEL_ISA {

// The random numbers of pixels first .. first + count: those that were given, or those of the seed.
template <class Real>
RAREPIXEL_INLINE const Real* read_uniform(const ReduceProblem& problem, std::int64_t first, int count, Real* buffer) {
  if (problem.uniform.data != nullptr) return read_block(problem.uniform, first, count, buffer);
  const int whole = words_for(count) * kWord;
  if constexpr (sizeof(Real) == 4) {
    return fill_uniform(*problem.seed, first, whole, buffer);
  } else {
    alignas(64) float singles[kBlock + kUniformSlack];
    const float* filled = fill_uniform(*problem.seed, first, whole, singles);
    for (int i = 0; i < whole; ++i) buffer[i] = filled[i];
    return buffer;
  }
}

// The weight of each pixel's segment, 0 outside every range and up to a whole word beyond count.
template <class Real>
void read_segment_weights(const Segments& segments, std::int64_t image, std::int64_t first, int count, Real* to) {
  const std::int32_t* ids = static_cast<const std::int32_t*>(segments.ids.data) + first;
  const Real* weights = static_cast<const Real*>(segments.weights) + segments.starts[image];
  for (int w = 0; w < words_for(count); ++w, ids += kWord, to += kWord) {
    const int left = static_cast<int>(smaller(kWord, count - w * kWord));
    alignas(64) std::int32_t rest[kWord] = {};
    if (left < kWord) memcpy(rest, ids, left * sizeof(std::int32_t));
    const std::int32_t* from = left < kWord ? rest : ids;
    std::int32_t any = 0;
    for (int i = 0; i < kWord; ++i) any |= from[i];
    if (any == 0) {
      for (int i = 0; i < kWord; ++i) to[i] = Real(0);
    } else {
      for (int i = 0; i < kWord; i += kLanes<Real>) store(to + i, look_up(weights, from + i));
    }
  }
}

// The weights of pixels first .. first + count, and which are not 0: those may count.
template <class Real>
RAREPIXEL_INLINE const Real* read_weights(const TensorView& tensor, std::int64_t first, int count, Real* buffer,
                                          std::uint64_t* among) {
  const Real* const weights = read_block(tensor, first, count, buffer);
  for (int w = 0; w < words_for(count); ++w) {
    among[w] = 0;
    for (int i = 0; i < kWord; i += kLanes<Real>) {
      among[w] |= bits_from_mask(!(load(weights + w * kWord + i) == Lanes<Real>(Real(0)))) << i;
    }
  }
  return weights;
}

// How many pixels that count have a weight that is no finite number above 0.
template <class Real>
RAREPIXEL_INLINE std::int64_t count_unusable(const Real* weights, int count, const std::uint64_t* counts) {
  using V = Lanes<Real>;
  std::int64_t unusable = 0;
  for (int w = 0; w < words_for(count); ++w) {
    std::uint64_t usable = 0;
    for (int i = 0; i < kWord; i += kLanes<Real>) {
      const V weight = load(weights + w * kWord + i);
      usable |= bits_from_mask((V(Real(0)) < weight) & !(V(MathConstants<Real>::kLargest) < weight)) << i;
    }
    unusable += __builtin_popcountll(counts[w] & ~usable);
  }
  return unusable;
}

// What a loss may ask of a block's pixels: arrays that are filled up to a whole word beyond the last one. Handed over
// by value, so that nothing a loop writes can change where they lie.
template <class Real>
struct PixelBlock {
  const Real* logits;
  const std::uint64_t* positive;  // a bit a pixel
  const std::uint64_t* counts;    // a bit a pixel
  const Real* uniform;            // for losses that drop pixels, to reduce
  const Real* numbers;            // soft labels, or weights of segments
  const Real* weights;            // for losses that weigh pixels
  std::uint64_t* kept;            // for losses that drop pixels, to reduce: a bit a pixel
  std::int64_t invalid;           // how many labels or weights that count are

  // As many pixels as there are lanes, from pixel i of word w on; `positives`: which of them are positive.
  RAREPIXEL_INLINE Pixel<Lanes<Real>> pixel(int w, int i, std::uint64_t positives) const {
    return {load(logits + w * kWord + i), mask_from_bits<Real>(positives), mask_from_bits<Real>(counts[w] >> i)};
  }
};

// Reads blocks, and has the memory for what is not used where it lies. An input that a loss does not ask for takes no
// room and no time.
template <class Loss, class Real>
class PixelReader {
 public:
  // The pixels from number `block` of the region on.
  RAREPIXEL_INLINE PixelBlock<Real> read(const ReduceProblem& problem, const LabelRule& rule, std::int64_t region,
                                         std::int64_t block, int count) {
    const std::int64_t first = region * problem.regions.pixels + block;
    PixelBlock<Real> pixels = plain(problem, first, count);
    if constexpr (Loss::kWeighsPixels) pixels.weights = read_weights(problem.weights, first, count, weights_, among_);
    pixels.invalid = read_labels_of_loss<true>(problem, rule, first, count);
    if constexpr (Loss::kWeighsPixels) pixels.invalid += count_unusable(pixels.weights, count, bits_.counts);
    if constexpr (Loss::kDropsPixels) {
      pixels.uniform = read_uniform(problem, first, count, uniform_);
      pixels.kept = kept_bits(problem, region, block);
    }
    if constexpr (Loss::kWeighsSegments) read_segment_weights(problem.segments, region, first, count, numbers_);
    return pixels;
  }

  // The same for map. Where pixels were dropped, what was kept counts.
  RAREPIXEL_INLINE PixelBlock<Real> read(const MapProblem& problem, const LabelRule& rule, std::int64_t region,
                                         std::int64_t block, int count) {
    const std::int64_t first = region * problem.regions.pixels + block;
    PixelBlock<Real> pixels = plain(problem, first, count);
    if constexpr (Loss::kWeighsPixels) pixels.weights = read_weights(problem.weights, first, count, weights_, among_);
    if constexpr (Loss::kDropsPixels) {
      read_positives(problem.labels, rule, first, count, bits_.positive);
      pixels.counts = kept_bits(problem, region, block);
    } else {
      read_labels_of_loss<false>(problem, rule, first, count);
    }
    if constexpr (Loss::kWeighsSegments) read_segment_weights(problem.segments, region, first, count, numbers_);
    return pixels;
  }

 private:
  LabelBits bits_;
  alignas(64) Real logits_[kBlock];
  alignas(64) Real uniform_[Loss::kDropsPixels ? kBlock + kUniformSlack : 1];
  alignas(64) Real numbers_[kHasNumber<Loss> ? kBlock : 1];
  alignas(64) Real weights_[Loss::kWeighsPixels ? kBlock : 1];
  std::uint64_t among_[Loss::kWeighsPixels ? kBlockWords : 1];

  RAREPIXEL_INLINE PixelBlock<Real> plain(const RegionProblem& problem, std::int64_t first, int count) {
    return {read_block(problem.logits, first, count, logits_),
            bits_.positive,
            bits_.counts,
            nullptr,
            numbers_,
            nullptr,
            nullptr,
            0};
  }

  template <bool kChecked>
  RAREPIXEL_INLINE std::int64_t read_labels_of_loss(const RegionProblem& problem, const LabelRule& rule,
                                                    std::int64_t first, int count) {
    const std::uint64_t* const among = Loss::kWeighsPixels ? among_ : nullptr;
    if constexpr (Loss::kSoftLabels) {
      return read_soft_labels<kChecked>(problem.labels, first, count, numbers_, bits_, among);
    } else {
      return read_labels<kChecked>(problem.labels, rule, first, count, bits_, among);
    }
  }

  RAREPIXEL_INLINE static std::uint64_t* kept_bits(const RegionProblem& problem, std::int64_t region,
                                                   std::int64_t block) {
    return problem.kept + region * problem.regions.kept_words() + block / kWord;
  }
};

}  // namespace rarepixel::RAREPIXEL_ISA
