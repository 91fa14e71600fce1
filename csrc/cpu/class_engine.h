// The SIMD half of the CPU engine for losses over a softmax (softmax_unified_focal.h): each pixel is seen with the
// logits of all its classes. engine.h is its like for losses whose channels are problems of their own.
#pragma once

#include "../losses/softmax_unified_focal.h"
#include "class_labels.h"
#include "engine.h"

namespace rarepixel::RAREPIXEL_ISA {

// Pixels worked on at a time: fewer of more classes, so that a block stays in the second cache.
RAREPIXEL_INLINE int class_block(int classes) {
  constexpr int kLargest = 512, kLogits = 16384;
  const int words = kLogits / classes / kWord;
  return words < 1 ? kWord : words * kWord < kLargest ? words * kWord : kLargest;
}

// Arrays in a piece of memory, one behind the other; without memory it counts the bytes that they take.
class Arrays {
 public:
  RAREPIXEL_INLINE explicit Arrays(void* memory) : start_(static_cast<unsigned char*>(memory)) {
    const std::uint64_t beyond = reinterpret_cast<std::uintptr_t>(memory) % kAlignment;
    if (beyond != 0) used_ = kAlignment - static_cast<std::int64_t>(beyond);
  }

  template <class T>
  RAREPIXEL_INLINE T* take(std::int64_t count) {
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    unsigned char* const at = start_ + used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return start_ == nullptr ? nullptr : reinterpret_cast<T*>(at);
  }

  RAREPIXEL_INLINE std::int64_t bytes() const { return used_ + kAlignment; }

 private:
  static constexpr std::int64_t kAlignment = 64;
  unsigned char* start_;
  std::int64_t used_ = 0;
};

// A block of one image: a row of logits for each class, what is known of the true classes, and what is made of them.
template <class Real, int kSums, int kCoefficients>
struct ClassBlock {
  using V = Lanes<Real>;
  int classes, stride;
  Real* truth;            // [stride]: the class; below 0 the pixel does not count
  const Real** logits;    // [classes], rows of the block
  Real** gradients;       // [classes], rows of the block
  V* exponentials;        // [classes]
  V* sums;                // [classes, kSums]
  Real* coefficients;     // [classes, kCoefficients]
  Real* logit_buffer;     // [classes, stride]
  Real* gradient_buffer;  // [classes, stride]
  Real* soft;             // [classes, stride], soft labels

  RAREPIXEL_INLINE ClassBlock(int number, Arrays& memory) : classes(number), stride(class_block(number)) {
    truth = memory.take<Real>(stride);
    logits = memory.take<const Real*>(classes);
    gradients = memory.take<Real*>(classes);
    exponentials = memory.take<V>(classes);
    sums = memory.take<V>(classes * kSums);
    coefficients = memory.take<Real>(classes * kCoefficients);
    logit_buffer = memory.take<Real>(classes * stride);
    gradient_buffer = memory.take<Real>(classes * stride);
    soft = memory.take<Real>(classes * stride);
  }

  // Returns how many labels that count are invalid.
  std::int64_t read(const ClassProblem& problem, std::int64_t image, std::int64_t first, int count) {
    const std::int64_t pixels = problem.images.pixels, image_start = image * pixels;
    for (int k = 0; k < classes; ++k) {
      logits[k] =
          read_block(problem.logits, image_start * classes + k * pixels + first, count, logit_buffer + k * stride);
    }
    switch (problem.label_kind) {
      case ClassLabels::kIndexMap: return read_index_map(problem.labels, classes, image_start, first, count, truth);
      case ClassLabels::kOneHot: return read_one_hot(problem.labels, classes, pixels, image_start, first, count, truth);
      default:
        return read_soft_classes(problem.labels, classes, pixels, image_start, first, count, stride, soft, truth);
    }
  }
};

template <class Loss, class Real>
using ClassBlockOf = ClassBlock<Real, Loss::kNumSums, Loss::kNumCoefficients>;

// Where the others stand against a pixel's true class: their exponentials, and the two together.
template <class Real, class Block, class IsTrue>
RAREPIXEL_INLINE ClassPixel<Lanes<Real>> class_pixel(const Block& block, int at, const IsTrue& is_true) {
  using V = Lanes<Real>;
  V true_logit(Real(0)), top(-MathConstants<Real>::kInfinity);
  for (int k = 0; k < block.classes; ++k) {
    __builtin_prefetch(block.logits[k] + at + block.stride);  // rows are too short for the processor to see ahead
    const V logit = load(block.logits[k] + at);
    const Mask<Real> mine = is_true(k);
    true_logit = select(mine, logit, true_logit);
    top = select(mine, top, at_least(top, logit));
  }
  const auto sum_below = [&](V reference) __attribute__((always_inline)) {
    V sum(Real(0));
    for (int k = 0; k < block.classes; ++k) {
      block.exponentials[k] = select(is_true(k), V(Real(0)), exp_negative(reference - load(block.logits[k] + at)));
      sum = sum + block.exponentials[k];
    }
    return sum;
  };
  V sum = sum_below(top);
  // NaN: a logit is, or the largest one is infinite.
  if (bits_from_mask(!(sum == sum)) != 0) {
    sum = ClassPixel<V>::of_one_infinity(top, sum_below(ClassPixel<V>::bounded(top)));
  }
  return {true_logit, top, sum, block.classes};
}

// Calls run(is_true, weight) for what a vector of pixels consists of: itself, or of soft labels a share of each class.
template <class Real, class Block, class Run>
RAREPIXEL_INLINE void for_each_share(const Block& block, const ClassProblem& problem, int at, Mask<Real> counts,
                                     const Run& run) {
  using V = Lanes<Real>;
  if (problem.label_kind != ClassLabels::kSoft) {
    const V truth = load(block.truth + at);
    run([&](int k) __attribute__((always_inline)) { return truth == V(static_cast<Real>(k)); }, V(Real(1)));
    return;
  }
  const Mask<Real> all = V(Real(0)) == V(Real(0)), none = !all;
  for (int t = 0; t < problem.classes; ++t) {
    const V weight = load(block.soft + t * block.stride + at);
    if (bits_from_mask(counts & !(weight == V(Real(0)))) == 0) continue;
    run([&](int k) __attribute__((always_inline)) { return k == t ? all : none; }, weight);
  }
}

template <class Loss, class Real>
void reduce_class_chunk(const Loss& loss, const ClassProblem& problem, std::int64_t chunk, std::int64_t image,
                        std::int64_t begin, std::int64_t end, Arrays memory) {
  using V = Lanes<Real>;
  constexpr int kSums = Loss::kNumSums;
  ClassBlockOf<Loss, Real> block(problem.classes, memory);
  const int classes = block.classes, step = block.stride;
  V* const sums = block.sums;
  double invalid = 0;
  for (int k = 0; k < classes; ++k) {
    double* totals = problem.partial_sums_of(chunk, k, kSums + 1);
    for (int s = 0; s <= kSums; ++s) totals[s] = 0;
  }
  for (std::int64_t first = begin; first < end; first += step) {
    const int count = static_cast<int>(smaller(step, end - first));
    invalid += static_cast<double>(block.read(problem, image, first, count));
    for (int i = 0; i < classes * kSums; ++i) sums[i] = V(Real(0));
    for (int at = 0; at < count; at += kLanes<Real>) {
      const Mask<Real> counts = !(load(block.truth + at) < V(Real(0)));
      if (bits_from_mask(counts) == 0) continue;
      for_each_share<Real>(
          block, problem, at, counts, [&](const auto& is_true, V weight) __attribute__((always_inline)) {
            const ClassPixel<V> pixel = class_pixel<Real>(block, at, is_true);
            V focal(Real(0));
            if (loss.has_focal) focal = loss.focal(pixel, is_true(loss.background_class));
            for (int k = 0; k < classes; ++k) {
              loss.accumulate(pixel, counts, is_true(k), weight, block.exponentials[k], focal, sums + k * kSums);
            }
          });
    }
    for (int k = 0; k < classes; ++k) {
      add_lanes(*reinterpret_cast<const V(*)[kSums]>(sums + k * kSums), problem.partial_sums_of(chunk, k, kSums + 1));
    }
  }
  problem.partial_sums_of(chunk, 0, kSums + 1)[kSums] = invalid;
}

template <class Loss, class Real>
void map_class_chunk(const Loss& loss, const ClassProblem& problem, std::int64_t image, std::int64_t begin,
                     std::int64_t end, Arrays memory) {
  using V = Lanes<Real>;
  using Table = RegionTable<Loss>;
  constexpr int kCoefficients = Loss::kNumCoefficients;
  ClassBlockOf<Loss, Real> block(problem.classes, memory);
  const int classes = block.classes, step = block.stride;
  Real** const gradients = block.gradients;
  const bool in_place = is_straight(problem.gradient, kDTypeOf<Real>);
  const std::int64_t region = problem.one_region ? 0 : image;
  const double* rows = problem.table + region * classes * Table::kColumns;
  Real* const coefficients = block.coefficients;
  for (int k = 0; k < classes; ++k) {
    for (int i = 0; i < kCoefficients; ++i) {
      coefficients[k * kCoefficients + i] = static_cast<Real>(rows[k * Table::kColumns + Table::kCoefficients + i]);
    }
  }
  const Real upstream = read_element<Real>(problem.upstream, problem.upstream_per_group ? region : 0);
  const V scale(static_cast<Real>(rows[Table::kScale] * static_cast<double>(upstream)));

  for (std::int64_t first = begin; first < end; first += step) {
    const int count = static_cast<int>(smaller(step, end - first));
    block.read(problem, image, first, count);
    const std::int64_t start = image * classes * problem.images.pixels + first;  // of class 0
    const bool directly = in_place && count % kWord == 0;
    for (int k = 0; k < classes; ++k) {
      Real* const there = static_cast<Real*>(problem.gradient.data) + start + k * problem.images.pixels;
      gradients[k] = directly ? there : block.gradient_buffer + k * step;
    }
    for (int at = 0; at < count; at += kLanes<Real>) {
      const Mask<Real> counts = !(load(block.truth + at) < V(Real(0)));
      for (int k = 0; k < classes; ++k) store(gradients[k] + at, V(Real(0)));
      if (bits_from_mask(counts) == 0) continue;
      for_each_share<Real>(
          block, problem, at, counts, [&](const auto& is_true, V weight) __attribute__((always_inline)) {
            const ClassPixel<V> pixel = class_pixel<Real>(block, at, is_true);
            V of_true[kCoefficients], weighed(Real(0));
            for (V& coefficient : of_true) coefficient = V(Real(0));
            for (int k = 0; k < classes; ++k) {
              const Mask<Real> mine = is_true(k);
              for (int i = 0; i < kCoefficients; ++i)
                of_true[i] = select(mine, V(coefficients[k * kCoefficients + i]), of_true[i]);
              weighed = weighed + V(coefficients[k * kCoefficients + Loss::kByFalsePositive]) * block.exponentials[k];
            }
            const auto slopes = loss.slopes(pixel, of_true, weighed);
            for (int k = 0; k < classes; ++k) {
              const V by_false_positive(coefficients[k * kCoefficients + Loss::kByFalsePositive]);
              const V of_other = loss.slope_of_other(pixel, slopes, by_false_positive, block.exponentials[k]);
              const V slope = weight * select(is_true(k), slopes.of_true, of_other);
              Real* const to = gradients[k] + at;
              store(to, add_where(counts, load(to), scale * slope));
            }
          });
    }
    for (int k = 0; !directly && k < classes; ++k) {
      write_block(problem.gradient, start + k * problem.images.pixels, count, gradients[k]);
    }
  }
}

template <class Loss>
std::int64_t class_scratch_bytes(const ClassProblem& problem) {
  Arrays memory(nullptr);
  if (problem.logits.dtype == DType::kFloat64) ClassBlockOf<Loss, double>(problem.classes, memory);
  else ClassBlockOf<Loss, float>(problem.classes, memory);
  return memory.bytes();
}

template <class Loss>
void reduce_classes(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
                    void* scratch) {
  const Arrays memory(scratch);
  const bool as_double = problem.logits.dtype == DType::kFloat64;
  for_each_chunk(problem.images, first_chunk, last_chunk,
                 [&](std::int64_t chunk, std::int64_t image, std::int64_t begin, std::int64_t end) {
                   if (as_double) reduce_class_chunk<Loss, double>(loss, problem, chunk, image, begin, end, memory);
                   else reduce_class_chunk<Loss, float>(loss, problem, chunk, image, begin, end, memory);
                 });
}

template <class Loss>
void map_classes(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
                 void* scratch) {
  const Arrays memory(scratch);
  const bool as_double = problem.logits.dtype == DType::kFloat64;
  for_each_chunk(problem.images, first_chunk, last_chunk,
                 [&](std::int64_t, std::int64_t image, std::int64_t begin, std::int64_t end) {
                   if (as_double) map_class_chunk<Loss, double>(loss, problem, image, begin, end, memory);
                   else map_class_chunk<Loss, float>(loss, problem, image, begin, end, memory);
                 });
}

}  // namespace rarepixel::RAREPIXEL_ISA
