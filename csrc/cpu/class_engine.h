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
template <class Loss, class Real>
struct ClassBlock {
  using V = Lanes<Real>;
  static constexpr int kSums = Loss::kNumSums, kCoefficients = Loss::kNumCoefficients;
  int classes, stride;
  Real* truth;                    // [stride]: the class; below 0 the pixel does not count
  const Real** logits;            // [classes], rows of the block
  Real** gradients;               // [classes], rows of the block
  V* exponentials;                // [classes]
  V* sums;                        // [classes, kSums]
  Real* coefficients;             // [classes, kCoefficients]
  Real* logit_buffer;             // [classes, stride]
  Real* gradient_buffer;          // [classes, stride]
  Real* soft = nullptr;           // [classes, stride], soft labels
  V* slopes = nullptr;            // [classes, 2], of soft labels: D and H
  const Real* weights = nullptr;  // [stride], of losses that weigh pixels
  Real* weight_buffer = nullptr;  // [stride]

  RAREPIXEL_INLINE ClassBlock(int number, Arrays& memory) : classes(number), stride(class_block(number)) {
    truth = memory.take<Real>(stride);
    logits = memory.take<const Real*>(classes);
    gradients = memory.take<Real*>(classes);
    exponentials = memory.take<V>(classes);
    sums = memory.take<V>(classes * kSums);
    coefficients = memory.take<Real>(classes * kCoefficients);
    logit_buffer = memory.take<Real>(classes * stride);
    gradient_buffer = memory.take<Real>(classes * stride);
    if constexpr (Loss::kSoftLabels) {
      soft = memory.take<Real>(classes * stride);
      slopes = memory.take<V>(classes * 2);
    }
    if constexpr (Loss::kWeighsPixels) weight_buffer = memory.take<Real>(stride);
  }

  // Returns how many labels, or weights, that count are invalid.
  std::int64_t read(const Loss& loss, const ClassProblem& problem, std::int64_t image, std::int64_t first, int count) {
    std::int64_t invalid = read_pixels(problem, image, first, count);
    if constexpr (Loss::kSoftLabels) {
      if (loss.label_smoothing > 0) smooth_labels(loss.label_smoothing, count);
    }
    if constexpr (Loss::kWeighsPixels) {
      weights = read_block(problem.weights, image * problem.images.pixels + first, count, weight_buffer);
      for (int i = 0; i < count; ++i) {
        const bool usable = weights[i] > 0 && weights[i] <= MathConstants<Real>::kLargest;
        invalid += !(truth[i] < 0 || usable);
      }
    }
    return invalid;
  }

 private:
  std::int64_t read_pixels(const ClassProblem& problem, std::int64_t image, std::int64_t first, int count) {
    const std::int64_t pixels = problem.images.pixels, image_start = image * pixels;
    for (int k = 0; k < classes; ++k) {
      logits[k] =
          read_block(problem.logits, image_start * classes + k * pixels + first, count, logit_buffer + k * stride);
    }
    if constexpr (Loss::kSoftLabels) {
      if (problem.label_kind == ClassLabels::kSoft) {
        return read_soft_classes(problem.labels, classes, pixels, image_start, first, count, stride, soft, truth);
      }
    }
    const std::int64_t invalid = problem.label_kind == ClassLabels::kIndexMap
                                     ? read_index_map(problem.labels, classes, image_start, first, count, truth)
                                     : read_one_hot(problem.labels, classes, pixels, image_start, first, count, truth);
    if constexpr (Loss::kSoftLabels) {
      for (int k = 0; k < classes; ++k) {
        for (int i = 0; i < words_for(count) * kWord; ++i) {
          soft[k * stride + i] = truth[i] == static_cast<Real>(k) ? Real(1) : Real(0);
        }
      }
    }
    return invalid;
  }

  void smooth_labels(double smoothing, int count) {
    const Real kept = static_cast<Real>(1 - smoothing), added = static_cast<Real>(smoothing / classes);
    for (int k = 0; k < classes; ++k) {
      for (int i = 0; i < words_for(count) * kWord; ++i) soft[k * stride + i] = soft[k * stride + i] * kept + added;
    }
  }
};

// Adds what a loss accumulates of a pixel, or of a weighed one, to the sums of a class.
template <class Loss, class V, class... Seen>
RAREPIXEL_INLINE void add_to_class(const Loss& loss, [[maybe_unused]] V weight, MaskOf<V> counts, V* sums,
                                   const Seen&... seen) {
  if constexpr (Loss::kWeighsPixels) {
    V once[Loss::kNumSums];
    for (V& sum : once) sum = V(0);
    loss.accumulate(seen..., once);
    for (int s = 0; s < Loss::kNumSums; ++s) sums[s] = add_where(counts, sums[s], weight * once[s]);
  } else {
    loss.accumulate(seen..., sums);
  }
}

template <class Loss, class Real>
RAREPIXEL_INLINE Lanes<Real> weight_at([[maybe_unused]] const ClassBlock<Loss, Real>& block, [[maybe_unused]] int at) {
  if constexpr (Loss::kWeighsPixels) return load(block.weights + at);
  else return Lanes<Real>(Real(1));
}

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

// Calls run(is_true), which tells of a class the pixels whose class it is.
template <class Real, class Block, class Run>
RAREPIXEL_INLINE void with_truth(const Block& block, int at, const Run& run) {
  using V = Lanes<Real>;
  const V truth = load(block.truth + at);
  run([&](int k) __attribute__((always_inline)) { return truth == V(static_cast<Real>(k)); });
}

template <class Loss, class Real>
RAREPIXEL_INLINE SoftPixel<Lanes<Real>> soft_pixel(const Loss& loss, const ClassBlock<Loss, Real>& block, int at) {
  using V = Lanes<Real>;
  V top = load(block.logits[0] + at), second(static_cast<Real>(-__builtin_inf()));
  for (int k = 1; k < block.classes; ++k) {
    __builtin_prefetch(block.logits[k] + at + block.stride);
    const V logit = load(block.logits[k] + at);
    second = at_least(second, at_most(top, logit));
    top = at_least(top, logit);
  }
  V below(Real(0)), largest(Real(0));
  for (int k = 0; k < block.classes; ++k) {
    const V logit = load(block.logits[k] + at);
    const Mask<Real> is_largest = logit == top;
    block.exponentials[k] = exp_negative(SoftPixel<V>::below_top(top, logit));
    below = add_where(!is_largest, below, block.exponentials[k]);
    largest = add_where(is_largest, largest, V(Real(1)));
  }
  return {top, second, below, largest, block.classes, loss.has_powers()};
}

template <class Loss, class Real>
RAREPIXEL_INLINE SoftClass<Lanes<Real>> soft_class(const ClassBlock<Loss, Real>& block,
                                                   const SoftPixel<Lanes<Real>>& pixel, int k, int at) {
  return {pixel, load(block.logits[k] + at), block.exponentials[k], load(block.soft + k * block.stride + at)};
}

template <class Loss, class Real>
RAREPIXEL_INLINE void add_soft_pixels(const Loss& loss, const ClassBlock<Loss, Real>& block, int at,
                                      Mask<Real> counts) {
  const auto pixel = soft_pixel(loss, block, at);
  for (int k = 0; k < block.classes; ++k) {
    add_to_class(loss, weight_at(block, at), counts, block.sums + k * Loss::kNumSums, pixel,
                 soft_class(block, pixel, k, at), counts, k);
  }
}

template <class Loss, class Real>
RAREPIXEL_INLINE void write_soft_slopes(const Loss& loss, const ClassBlock<Loss, Real>& block, int at,
                                        Mask<Real> counts, Lanes<Real> scale) {
  using V = Lanes<Real>;
  const auto pixel = soft_pixel(loss, block, at);
  V of_dominant(Real(0)), of_others(Real(0));
  for (int k = 0; k < block.classes; ++k) {
    const auto one = soft_class(block, pixel, k, at);
    const auto slope = loss.class_slope(pixel, one, block.coefficients + k * Loss::kNumCoefficients);
    block.slopes[2 * k] = slope.by_probability;
    block.slopes[2 * k + 1] = slope.by_label;
    of_dominant = add_where(one.dominant, of_dominant, slope.to_others);
    of_others = add_where(!one.dominant, of_others, slope.to_others);
  }
  const V of_all = of_dominant + of_others;
  for (int k = 0; k < block.classes; ++k) {
    const Mask<Real> dominant = load(block.logits[k] + at) == pixel.dominant;
    const V slope =
        loss.slope_of_logit(block.exponentials[k] * pixel.share, select(dominant, pixel.rest, V(Real(1))),
                            block.slopes[2 * k], block.slopes[2 * k + 1], select(dominant, of_others, of_all));
    store(block.gradients[k] + at, select(counts, scale * slope, V(Real(0))));
  }
}

template <class Loss, class Real>
void reduce_class_chunk(const Loss& loss, const ClassProblem& problem, std::int64_t chunk, std::int64_t image,
                        std::int64_t begin, std::int64_t end, Arrays memory) {
  using V = Lanes<Real>;
  constexpr int kSums = Loss::kNumSums;
  ClassBlock<Loss, Real> block(problem.classes, memory);
  const int classes = block.classes, step = block.stride;
  V* const sums = block.sums;
  double invalid = 0;
  for (int k = 0; k < classes; ++k) {
    double* totals = problem.partial_sums_of(chunk, k, kSums + 1);
    for (int s = 0; s <= kSums; ++s) totals[s] = 0;
  }
  for (std::int64_t first = begin; first < end; first += step) {
    const int count = static_cast<int>(smaller(step, end - first));
    invalid += static_cast<double>(block.read(loss, problem, image, first, count));
    for (int i = 0; i < classes * kSums; ++i) sums[i] = V(Real(0));
    for (int at = 0; at < count; at += kLanes<Real>) {
      const Mask<Real> counts = !(load(block.truth + at) < V(Real(0)));
      if (bits_from_mask(counts) == 0) continue;
      if constexpr (Loss::kSoftLabels) add_soft_pixels(loss, block, at, counts);
      else
        with_truth<Real>(
            block, at, [&](const auto& is_true) __attribute__((always_inline)) {
              const ClassPixel<V> pixel = class_pixel<Real>(block, at, is_true);
              V focal(Real(0));
              if (loss.has_focal) focal = loss.focal(pixel, is_true(loss.background_class));
              for (int k = 0; k < classes; ++k) {
                add_to_class(loss, weight_at(block, at), counts, sums + k * kSums, pixel, counts, is_true(k),
                             block.exponentials[k], focal);
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
  ClassBlock<Loss, Real> block(problem.classes, memory);
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
    block.read(loss, problem, image, first, count);
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
      V scale_of_pixel = scale;
      if constexpr (Loss::kWeighsPixels) scale_of_pixel = scale * weight_at(block, at);
      if constexpr (Loss::kSoftLabels) write_soft_slopes(loss, block, at, counts, scale_of_pixel);
      else
        with_truth<Real>(
            block, at, [&](const auto& is_true) __attribute__((always_inline)) {
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
                const V slope = select(is_true(k), slopes.of_true, of_other);
                Real* const to = gradients[k] + at;
                store(to, add_where(counts, load(to), scale_of_pixel * slope));
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
  if (problem.logits.dtype == DType::kFloat64) ClassBlock<Loss, double>(problem.classes, memory);
  else ClassBlock<Loss, float>(problem.classes, memory);
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
