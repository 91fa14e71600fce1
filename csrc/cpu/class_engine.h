// The SIMD half of the CPU engine for losses over a softmax (softmax_unified_focal.h): each pixel is seen with the
// logits of all its classes. engine.h is its like for losses whose channels are problems of their own.
#pragma once

#include "../softmax_unified_focal.h"
#include "class_labels.h"
#include "engine.h"

namespace rarepixel::RAREPIXEL_ISA {

// As many numbers as one buffer of a block has, over all classes: a word of pixels of the most classes there may be.
inline constexpr int kClassBuffer = kMaxClasses * kWord;

// Pixels worked on at a time.
RAREPIXEL_INLINE int class_block(int classes) {
  constexpr int kLargest = 512;
  const int words = kClassBuffer / classes / kWord;
  return words * kWord < kLargest ? words * kWord : kLargest;
}

// A block of one image: a row of logits for each class, and what is known of the true classes.
template <class Real>
struct ClassBlock {
  const Real* logits[kMaxClasses];
  alignas(64) Real logit_buffer[kClassBuffer];
  alignas(64) Real truth[kBlock];  // the class; below 0 the pixel does not count
  alignas(64) Real soft[kClassBuffer];
  int stride;

  // Returns how many labels that count are invalid.
  std::int64_t read(const ClassProblem& problem, std::int64_t image, std::int64_t first, int count) {
    const int classes = problem.classes;
    const std::int64_t pixels = problem.images.pixels, image_start = image * pixels;
    stride = class_block(classes);
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

// Where the others stand against a pixel's true class: their exponentials, and the two together.
template <class Real, class IsTrue>
RAREPIXEL_INLINE Rivalry<Lanes<Real>> rivalry(const ClassBlock<Real>& block, int classes, int at, const IsTrue& is_true,
                                              Lanes<Real>* exponentials) {
  using V = Lanes<Real>;
  V true_logit(Real(0)), top(-static_cast<Real>(__builtin_inf())), sum(Real(0));
  for (int k = 0; k < classes; ++k) {
    const V logit = load(block.logits[k] + at);
    const Mask<Real> mine = is_true(k);
    true_logit = select(mine, logit, true_logit);
    top = select(mine, top, at_least(top, logit));
  }
  for (int k = 0; k < classes; ++k) {
    exponentials[k] = select(is_true(k), V(Real(0)), exp_negative(top - load(block.logits[k] + at)));
    sum = sum + exponentials[k];
  }
  return {true_logit, top, sum, classes};
}

// Calls run(is_true, weight) for what a vector of pixels consists of: itself, or of soft labels a share of each class.
template <class Real, class Run>
RAREPIXEL_INLINE void for_each_share(const ClassBlock<Real>& block, const ClassProblem& problem, int at,
                                     Mask<Real> counts, const Run& run) {
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
                        std::int64_t begin, std::int64_t end) {
  using V = Lanes<Real>;
  constexpr int kSums = Loss::kNumSums;
  const int classes = problem.classes, step = class_block(classes);
  ClassBlock<Real> block;
  V exponentials[kMaxClasses], sums[kMaxClasses * kSums];
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
      for_each_share(
          block, problem, at, counts, [&](const auto& is_true, V weight) __attribute__((always_inline)) {
            const Rivalry<V> pixel = rivalry(block, classes, at, is_true, exponentials);
            V focal(Real(0));
            if (loss.has_focal) focal = loss.focal(pixel, is_true(loss.background_class));
            for (int k = 0; k < classes; ++k) {
              loss.accumulate(pixel, counts, is_true(k), weight, exponentials[k], focal, sums + k * kSums);
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
                     std::int64_t end) {
  using V = Lanes<Real>;
  using Table = RegionTable<Loss>;
  constexpr int kCoefficients = Loss::kNumCoefficients;
  const int classes = problem.classes, step = class_block(classes);
  ClassBlock<Real> block;
  alignas(64) Real gradient_buffer[kClassBuffer];
  Real* gradients[kMaxClasses];
  V exponentials[kMaxClasses];
  const bool in_place = is_straight(problem.gradient, kDTypeOf<Real>);
  const std::int64_t region = problem.one_region ? 0 : image;
  const double* rows = problem.table + region * classes * Table::kColumns;
  Real coefficients[kMaxClasses][kCoefficients];
  for (int k = 0; k < classes; ++k) {
    for (int i = 0; i < kCoefficients; ++i) {
      coefficients[k][i] = static_cast<Real>(rows[k * Table::kColumns + Table::kCoefficients + i]);
    }
  }
  Real upstream;
  read_as<Real>(problem.upstream, problem.upstream_per_group ? region : 0, 1, &upstream);
  const V scale(static_cast<Real>(rows[Table::kScale] * static_cast<double>(upstream)));

  for (std::int64_t first = begin; first < end; first += step) {
    const int count = static_cast<int>(smaller(step, end - first));
    block.read(problem, image, first, count);
    const std::int64_t start = image * classes * problem.images.pixels + first;  // of class 0
    const bool directly = in_place && count % kWord == 0;
    for (int k = 0; k < classes; ++k) {
      Real* const there = static_cast<Real*>(problem.gradient.data) + start + k * problem.images.pixels;
      gradients[k] = directly ? there : gradient_buffer + k * step;
    }
    for (int at = 0; at < count; at += kLanes<Real>) {
      const Mask<Real> counts = !(load(block.truth + at) < V(Real(0)));
      for (int k = 0; k < classes; ++k) store(gradients[k] + at, V(Real(0)));
      if (bits_from_mask(counts) == 0) continue;
      for_each_share(
          block, problem, at, counts, [&](const auto& is_true, V weight) __attribute__((always_inline)) {
            const Rivalry<V> pixel = rivalry(block, classes, at, is_true, exponentials);
            V of_true[kCoefficients], weighed(Real(0));
            for (V& coefficient : of_true) coefficient = V(Real(0));
            for (int k = 0; k < classes; ++k) {
              const Mask<Real> mine = is_true(k);
              for (int i = 0; i < kCoefficients; ++i) of_true[i] = select(mine, V(coefficients[k][i]), of_true[i]);
              weighed = weighed + V(coefficients[k][Loss::kByFalsePositive]) * exponentials[k];
            }
            const auto slopes = loss.slopes(pixel, of_true, weighed);
            for (int k = 0; k < classes; ++k) {
              const V of_other =
                  loss.slope_of_other(pixel, slopes, V(coefficients[k][Loss::kByFalsePositive]), exponentials[k]);
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
void reduce_classes(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk) {
  const bool as_double = problem.logits.dtype == DType::kFloat64;
  for_each_chunk(problem.images, first_chunk, last_chunk,
                 [&](std::int64_t chunk, std::int64_t image, std::int64_t begin, std::int64_t end) {
                   if (as_double) reduce_class_chunk<Loss, double>(loss, problem, chunk, image, begin, end);
                   else reduce_class_chunk<Loss, float>(loss, problem, chunk, image, begin, end);
                 });
}

template <class Loss>
void map_classes(const Loss& loss, const ClassProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk) {
  const bool as_double = problem.logits.dtype == DType::kFloat64;
  for_each_chunk(problem.images, first_chunk, last_chunk,
                 [&](std::int64_t, std::int64_t image, std::int64_t begin, std::int64_t end) {
                   if (as_double) map_class_chunk<Loss, double>(loss, problem, image, begin, end);
                   else map_class_chunk<Loss, float>(loss, problem, image, begin, end);
                 });
}

template <class Loss>
ClassKernels<Loss> class_kernels() {
  return {&reduce_classes<Loss>, &map_classes<Loss>};
}

}  // namespace rarepixel::RAREPIXEL_ISA
