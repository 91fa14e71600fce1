// The SIMD half of one_versus_rest.h on the CPU: log-odds, their derivative and labels, a block of pixels at a time.
#pragma once

#include "../one_versus_rest.h"
#include "class_engine.h"

namespace rarepixel::RAREPIXEL_ISA {

// A block of one image: a row for each class of what is read and written, and what a vector of pixels is made of.
template <class Real>
struct OneVersusRestBlock {
  using V = Lanes<Real>;
  int classes, stride;
  const Real** logits;    // [classes], rows of the block
  const Real** upstream;  // [classes], rows of the block
  Real** results;         // [classes], rows of the block
  V* exponentials;        // [classes]
  V* shares;              // [classes]
  Real* logit_buffer;     // [classes, stride]
  Real* upstream_buffer;  // [classes, stride]
  Real* result_buffer;    // [classes, stride]

  RAREPIXEL_INLINE OneVersusRestBlock(int number, Arrays& memory) : classes(number), stride(class_block(number)) {
    logits = memory.take<const Real*>(classes);
    upstream = memory.take<const Real*>(classes);
    results = memory.take<Real*>(classes);
    exponentials = memory.take<V>(classes);
    shares = memory.take<V>(classes);
    logit_buffer = memory.take<Real>(classes * stride);
    upstream_buffer = memory.take<Real>(classes * stride);
    result_buffer = memory.take<Real>(classes * stride);
  }

  // Ranks the classes of a vector of pixels and takes their exponentials.
  RAREPIXEL_INLINE OneVersusRest<V> pixel(int at) const {
    TopTwo<V> two(load(logits[0] + at));
    for (int k = 1; k < classes; ++k) two.see(k, load(logits[k] + at));
    OneVersusRest<V> found(two);
    for (int k = 0; k < classes; ++k) {
      exponentials[k] = found.exponential(k, load(logits[k] + at));
      found.add(exponentials[k]);
    }
    return found;
  }
};

template <class Real>
void read_rows(const TensorView& tensor, std::int64_t start, std::int64_t pixels, int count,
               const OneVersusRestBlock<Real>& block, Real* buffer, const Real** rows) {
  for (int k = 0; k < block.classes; ++k) {
    rows[k] = read_block(tensor, start + k * pixels, count, buffer + k * block.stride);
  }
}

// Calls run(block) for each block of a chunk's pixels, whose results it has made room for, and writes them.
template <class Real, class Run>
RAREPIXEL_INLINE void for_each_block(const OneVersusRestProblem& problem, const TensorView& results, std::int64_t image,
                                     std::int64_t begin, std::int64_t end, Arrays memory, const Run& run) {
  OneVersusRestBlock<Real> block(problem.classes, memory);
  const std::int64_t pixels = problem.images.pixels;
  const bool in_place = is_straight(results, kDTypeOf<Real>);
  for (std::int64_t first = begin; first < end; first += block.stride) {
    const int count = static_cast<int>(smaller(block.stride, end - first));
    const std::int64_t start = image * problem.classes * pixels + first;  // of class 0
    const bool directly = in_place && count % kWord == 0;
    for (int k = 0; k < block.classes; ++k) {
      block.results[k] =
          directly ? static_cast<Real*>(results.data) + start + k * pixels : block.result_buffer + k * block.stride;
    }
    read_rows(problem.logits, start, pixels, count, block, block.logit_buffer, block.logits);
    run(block, start, count);
    for (int k = 0; !directly && k < block.classes; ++k) {
      write_block(results, start + k * pixels, count, block.results[k]);
    }
  }
}

template <class Real>
void log_odds_of_chunk(const OneVersusRestProblem& problem, std::int64_t image, std::int64_t begin, std::int64_t end,
                       Arrays memory) {
  using V = Lanes<Real>;
  const auto run = [&](const OneVersusRestBlock<Real>& block, std::int64_t, int count) {
    for (int at = 0; at < count; at += kLanes<Real>) {
      const OneVersusRest<V> pixel = block.pixel(at);
      const V of_top = pixel.log_odds_of_top(block.classes);
      for (int k = 0; k < block.classes; ++k) {
        const V of_other = pixel.log_odds_of_other(load(block.logits[k] + at), block.exponentials[k], block.classes);
        store(block.results[k] + at, select(pixel.is_top(k), of_top, of_other));
      }
    }
  };
  for_each_block<Real>(problem, problem.log_odds, image, begin, end, memory, run);
}

template <class Real>
void backward_of_chunk(const OneVersusRestProblem& problem, std::int64_t image, std::int64_t begin, std::int64_t end,
                       Arrays memory) {
  using V = Lanes<Real>;
  const V zero(Real(0));
  const auto run = [&](const OneVersusRestBlock<Real>& block, std::int64_t start, int count) {
    read_rows(problem.upstream, start, problem.images.pixels, count, block, block.upstream_buffer, block.upstream);
    for (int at = 0; at < count; at += kLanes<Real>) {
      Mask<Real> idle = zero == zero;
      V upstream_of_top = zero;
      for (int k = 0; k < block.classes; ++k) idle = idle & (load(block.upstream[k] + at) == zero);
      if (bits_from_mask(!idle) == 0) {
        for (int k = 0; k < block.classes; ++k) store(block.results[k] + at, zero);
        continue;
      }
      const OneVersusRest<V> pixel = block.pixel(at);
      V shares = zero;
      for (int k = 0; k < block.classes; ++k) {
        const V upstream = load(block.upstream[k] + at);
        block.shares[k] = pixel.share(k, upstream, block.exponentials[k]);
        shares = shares + block.shares[k];
        upstream_of_top = select(pixel.is_top(k), upstream, upstream_of_top);
      }
      upstream_of_top = upstream_of_top / pixel.sum();
      for (int k = 0; k < block.classes; ++k) {
        const V upstream = load(block.upstream[k] + at);
        const V of_other =
            pixel.slope_of_other(upstream, block.exponentials[k], block.shares[k], shares, upstream_of_top);
        const V slope = select(pixel.is_top(k), pixel.slope_of_top(upstream, shares), of_other);
        store(block.results[k] + at, select(idle, zero, slope));
      }
    }
  };
  for_each_block<Real>(problem, problem.gradient, image, begin, end, memory, run);
}

template <bool kBackward, class Real>
void one_versus_rest_chunk(const OneVersusRestProblem& problem, std::int64_t image, std::int64_t begin,
                           std::int64_t end, Arrays memory) {
  if constexpr (kBackward) backward_of_chunk<Real>(problem, image, begin, end, memory);
  else log_odds_of_chunk<Real>(problem, image, begin, end, memory);
}

inline std::int64_t one_versus_rest_scratch(const ClassProblem& problem) {
  Arrays memory(nullptr);
  if (problem.logits.dtype == DType::kFloat64) OneVersusRestBlock<double>(problem.classes, memory);
  else OneVersusRestBlock<float>(problem.classes, memory);
  return memory.bytes();
}

template <bool kBackward>
void one_versus_rest_chunks(const OneVersusRestProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
                            void* scratch) {
  const Arrays memory(scratch);
  const bool as_double = problem.logits.dtype == DType::kFloat64;
  for_each_chunk(problem.images, first_chunk, last_chunk,
                 [&](std::int64_t, std::int64_t image, std::int64_t begin, std::int64_t end) {
                   if (as_double) one_versus_rest_chunk<kBackward, double>(problem, image, begin, end, memory);
                   else one_versus_rest_chunk<kBackward, float>(problem, image, begin, end, memory);
                 });
}

// Returns how many labels of a block that count are invalid.
inline std::int64_t label_block(const OneVersusRestProblem& problem, std::int64_t image, std::int64_t first,
                                int count) {
  const std::int64_t pixels = problem.images.pixels, image_start = image * pixels;
  alignas(64) float truth[kBlock];
  const std::int64_t invalid =
      problem.label_kind == ClassLabels::kIndexMap
          ? read_index_map(problem.labels, problem.classes, image_start, first, count, truth)
          : read_one_hot(problem.labels, problem.classes, pixels, image_start, first, count, truth);
  // As bytes, of which 64 are compared at once.
  alignas(64) std::uint8_t classes[kBlock];
  for (int i = 0; i < count; ++i) {
    const std::int32_t k = static_cast<std::int32_t>(truth[i]);
    classes[i] = static_cast<std::uint8_t>(k < 0 ? std::int32_t(kCountsForNothing) : k);
  }
  std::uint8_t* to = problem.channel_labels + image_start * problem.classes + first;
  for (int k = 0; k < problem.classes; ++k, to += pixels) {
    for (int i = 0; i < count; ++i) {
      const std::uint8_t label = classes[i] == k ? kIsClass : kIsRest;
      to[i] = classes[i] == kCountsForNothing ? kCountsForNothing : label;
    }
  }
  return invalid;
}

inline std::int64_t label_chunks(const OneVersusRestProblem& problem, std::int64_t first_chunk,
                                 std::int64_t last_chunk) {
  std::int64_t invalid = 0;
  for_each_chunk(problem.images, first_chunk, last_chunk,
                 [&](std::int64_t, std::int64_t image, std::int64_t begin, std::int64_t end) {
                   for (std::int64_t first = begin; first < end; first += kBlock) {
                     invalid += label_block(problem, image, first, static_cast<int>(smaller(kBlock, end - first)));
                   }
                 });
  return invalid;
}

template <>
OneVersusRestKernels kernels<OneVersusRestKernels>() {
  return {&one_versus_rest_scratch, &one_versus_rest_chunks<false>, &one_versus_rest_chunks<true>, &label_chunks};
}

}  // namespace rarepixel::RAREPIXEL_ISA
