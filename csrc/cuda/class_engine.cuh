// The CUDA engine for losses over a softmax (softmax_unified_focal.h): each thread sees a pixel with the logits of all
// its classes. engine.cuh is its like for losses whose channels are problems of their own, and has settle_kernel.
//
// A block works on a chunk of an image and on one tile of classes, whose sums or gradients it keeps in registers. Where
// one tile holds all classes it keeps their logits and exponentials, too; else it reads and computes them again.
#pragma once

#include "../losses/softmax_unified_focal.h"
#include "engine.cuh"

namespace rarepixel::cuda {

// ---- Labels ----

// Not inlined: nine readers in every kernel would be most of its code.
static __device__ __noinline__ double number_at(const TensorView& tensor, std::int64_t pixel) {
  const std::int64_t at = offset_of(tensor, pixel);
  switch (tensor.dtype) {
    case DType::kByte: return static_cast<const std::uint8_t*>(tensor.data)[at];
    case DType::kInt8: return static_cast<const std::int8_t*>(tensor.data)[at];
    case DType::kInt16: return static_cast<const std::int16_t*>(tensor.data)[at];
    case DType::kInt32: return static_cast<const std::int32_t*>(tensor.data)[at];
    case DType::kInt64: return static_cast<double>(static_cast<const std::int64_t*>(tensor.data)[at]);
    case DType::kFloat16: return to_float(static_cast<const Float16*>(tensor.data)[at]);
    case DType::kBFloat16: return to_float(static_cast<const BFloat16*>(tensor.data)[at]);
    case DType::kFloat64: return static_cast<const double*>(tensor.data)[at];
    default: return static_cast<const float*>(tensor.data)[at];
  }
}

// What is known of the true class of one pixel.
struct PixelLabels {
  const ClassProblem& problem;
  std::int64_t first;  // the pixel in class 0 of labels that have a value a class
  int truth;           // the class; of soft labels 0 where the pixel counts

  __device__ PixelLabels(const ClassProblem& all, std::int64_t image, std::int64_t pixel) : problem(all) {
    const std::int64_t pixels = problem.images.pixels;
    first = image * problem.classes * pixels + pixel;
    if (problem.label_kind == ClassLabels::kIndexMap) truth = of_map(image * pixels + pixel);
    else truth = of_classes(problem.label_kind == ClassLabels::kSoft);
  }

  // The share that a class has of a pixel, whose labels are soft or are made so.
  __device__ double share(int k, double smoothing) const {
    const double label = problem.label_kind == ClassLabels::kSoft
                             ? number_at(problem.labels.target, first + k * problem.images.pixels)
                             : (k == truth ? 1.0 : 0.0);
    return smoothing > 0 ? label * (1 - smoothing) + smoothing / problem.classes : label;
  }

 private:
  __device__ bool is_out(double label, std::int64_t at) const {
    const Labels& labels = problem.labels;
    const TensorView& mask = labels.mask;
    if (mask.data != nullptr && static_cast<const std::uint8_t*>(mask.data)[offset_of(mask, at)] == 0) return true;
    if (!labels.has_ignore_index || label != static_cast<double>(labels.ignore_index)) return false;
    // Beyond 2^53 doubles are equal that the numbers are not.
    if (labels.target.dtype != DType::kInt64) return is_exactly(label, labels.ignore_index);
    return static_cast<const std::int64_t*>(labels.target.data)[offset_of(labels.target, at)] == labels.ignore_index;
  }

  __device__ int of_map(std::int64_t at) const {
    const double label = number_at(problem.labels.target, at);
    if (is_out(label, at)) return kNoClass;
    const bool is_class = label >= 0 && label < problem.classes && label == trunc(label);
    return is_class ? static_cast<int>(label) : kInvalidClass;
  }

  // One-hot: exactly one label is 1, the others are 0. Soft: all are from 0 to 1 and sum to 1. A pixel that is ignored in
  // some classes does not count, but what its other labels are is looked at: nothing that is wrong is lost.
  __device__ int of_classes(bool soft) const {
    double sum = 0;
    int found = 0;
    bool valid = true, out = false;
    for (int k = 0; k < problem.classes; ++k) {
      const std::int64_t at = first + k * problem.images.pixels;
      const double label = number_at(problem.labels.target, at);
      const bool label_is_out = is_out(label, at);
      out = out || label_is_out;
      valid = valid && (label_is_out || (soft ? label >= 0 && label <= 1 : label == 0 || label == 1));
      found = !soft && label == 1 ? k : found;
      sum += label;
    }
    if (valid && out) return kNoClass;
    return valid && absolute(sum - 1) < kSoftLabelTolerance ? found : kInvalidClass;
  }
};

// ---- A pixel ----

// Calls body(k) for every class; where a tile holds all of them, unrolled, so that k indexes registers.
template <int kClassTile, bool kHeld, class Body>
__device__ void for_classes(int classes, const Body& body) {
  if constexpr (kHeld) {
#pragma unroll
    for (int k = 0; k < kClassTile; ++k) {
      if (k < classes) body(k);
    }
  } else {
    for (int k = 0; k < classes; ++k) body(k);
  }
}

template <int kClassTile, bool kHeld, class Logit, class Real>
struct ClassLogits {
  const ClassProblem& problem;
  std::int64_t first;  // the pixel in class 0
  Real held[kHeld ? kClassTile : 1];

  __device__ ClassLogits(const ClassProblem& all, std::int64_t at) : problem(all), first(at) {
    if constexpr (kHeld) {
      for_classes<kClassTile, kHeld>(problem.classes, [&](int k) { held[k] = read(k); });
    }
  }

  __device__ Real operator()(int k) const {
    if constexpr (kHeld) return held[k];
    else return read(k);
  }

 private:
  __device__ Real read(int k) const {
    const std::int64_t at = offset_of(problem.logits, first + k * problem.images.pixels);
    return to_real<Real>(static_cast<const Logit*>(problem.logits.data)[at]);
  }
};

// The other classes of a pixel against class `truth`.
template <int kClassTile, bool kHeld, class Logit, class Real>
struct Others {
  const ClassLogits<kClassTile, kHeld, Logit, Real>& logits;
  int truth;
  Real true_logit = 0, top = -MathConstants<Real>::kInfinity, reference, sum = 0;
  Real held[kHeld ? kClassTile : 1];

  __device__ Others(const ClassLogits<kClassTile, kHeld, Logit, Real>& of, int classes, int t) : logits(of), truth(t) {
    for_classes<kClassTile, kHeld>(classes, [&](int k) {
      const Real logit = logits(k);
      if (k == truth) true_logit = logit;
      else top = at_least(top, logit);
    });
    reference = ClassPixel<Real>::bounded(top);
    for_classes<kClassTile, kHeld>(classes, [&](int k) {
      const Real e = compute(k);
      if constexpr (kHeld) held[k] = e;
      sum += e;
    });
    sum = ClassPixel<Real>::of_one_infinity(top, sum);
  }

  __device__ ClassPixel<Real> class_pixel(int classes) const { return {true_logit, top, sum, classes}; }

  // exp(x_k - top), 0 of the true class.
  __device__ Real exponential(int k) const {
    if constexpr (kHeld) return held[k];
    else return compute(k);
  }

 private:
  __device__ Real compute(int k) const { return k == truth ? Real(0) : exp_negative(reference - logits(k)); }
};

// The classes of a pixel of soft labels.
template <int kClassTile, bool kHeld, class Logit, class Real>
struct SoftClasses {
  const PixelLabels& labels;
  const ClassLogits<kClassTile, kHeld, Logit, Real>& logits;
  double smoothing;
  Real held[kHeld ? kClassTile : 1];
  SoftPixel<Real> pixel;

  template <class Loss>
  __device__ SoftClasses(const Loss& loss, const PixelLabels& of,
                         const ClassLogits<kClassTile, kHeld, Logit, Real>& its_logits)
      : labels(of), logits(its_logits), smoothing(loss.label_smoothing), pixel(look(loss.has_powers())) {}

  // Of `place` in what is held.
  __device__ SoftClass<Real> of_class(int k, int place) const {
    const Real logit = logits(kHeld ? place : k);
    Real exponential;
    if constexpr (kHeld) exponential = held[place];
    else exponential = exp_negative(SoftPixel<Real>::below_top(pixel.top, logit));
    return {pixel, logit, exponential, static_cast<Real>(labels.share(k, smoothing))};
  }

 private:
  __device__ SoftPixel<Real> look(bool powers) {
    const int classes = labels.problem.classes;
    Real top = logits(0), second = static_cast<Real>(-__builtin_inf()), below = 0, largest = 0;
    for_classes<kClassTile, kHeld>(classes, [&](int k) {
      if (k == 0) return;
      const Real logit = logits(k);
      second = at_least(second, at_most(top, logit));
      top = at_least(top, logit);
    });
    for_classes<kClassTile, kHeld>(classes, [&](int k) {
      const Real logit = logits(k), e = exp_negative(SoftPixel<Real>::below_top(top, logit));
      if constexpr (kHeld) held[k] = e;
      below = add_where(!(logit == top), below, e);
      largest = add_where(logit == top, largest, Real(1));
    });
    return {top, second, below, largest, classes, powers};
  }
};

// What a pixel weighs.
template <class Loss, class Real>
__device__ Real weight_at([[maybe_unused]] const ClassProblem& problem, [[maybe_unused]] std::int64_t image,
                          [[maybe_unused]] std::int64_t pixel) {
  if constexpr (Loss::kWeighsPixels) {
    const std::int64_t at = offset_of(problem.weights, image * problem.images.pixels + pixel);
    return static_cast<const Real*>(problem.weights.data)[at];
  } else {
    return Real(1);
  }
}

// Adds what a loss accumulates of a pixel, or of a weighed one, to the sums of a class.
template <class Loss, class Real, class... Seen>
__device__ void add_to_class(const Loss& loss, [[maybe_unused]] Real weight, Real* sums, const Seen&... seen) {
  if constexpr (Loss::kWeighsPixels) {
    Real once[Loss::kNumSums] = {};
    loss.accumulate(seen..., once);
#pragma unroll
    for (int s = 0; s < Loss::kNumSums; ++s) sums[s] += weight * once[s];
  } else {
    loss.accumulate(seen..., sums);
  }
}

// ---- Kernels ----

// How many blocks a processor should hold at least: more doubles than this would spill. 0: as the compiler likes.
template <class Real>
inline constexpr int kBlocksToFit = sizeof(Real) == 8 ? 2 : 0;

template <int kClassTile, bool kHeld, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads)
    reduce_classes_kernel(const Loss loss, const __grid_constant__ ClassProblem problem, unsigned int* ticket) {
  constexpr int kSums = Loss::kNumSums;
  const Chunk chunk(problem.images);
  const int tile = blockIdx.y * kClassTile;
  Real sums[kClassTile * kSums];
#pragma unroll
  for (int i = 0; i < kClassTile * kSums; ++i) sums[i] = 0;
  int invalid = 0;
  for (std::int64_t at = chunk.begin + threadIdx.x; at < chunk.end; at += kThreads) {
    const PixelLabels labels(problem, chunk.region, at);
    invalid += labels.truth == kInvalidClass;
    if (labels.truth < 0) continue;
    const Real weight = weight_at<Loss, Real>(problem, chunk.region, at);
    if constexpr (Loss::kWeighsPixels) invalid += !(weight > 0 && weight <= MathConstants<Real>::kLargest);
    const ClassLogits<kClassTile, kHeld, Logit, Real> logits(problem, labels.first);
    if constexpr (Loss::kSoftLabels) {
      const SoftClasses<kClassTile, kHeld, Logit, Real> soft(loss, labels, logits);
#pragma unroll
      for (int i = 0; i < kClassTile; ++i) {
        const int k = tile + i;
        if (k < problem.classes) {
          add_to_class(loss, weight, sums + i * kSums, soft.pixel, soft.of_class(k, i), true, k);
        }
      }
    } else {
      const int t = labels.truth;
      const Others<kClassTile, kHeld, Logit, Real> others(logits, problem.classes, t);
      const ClassPixel<Real> pixel = others.class_pixel(problem.classes);
      const Real focal = loss.has_focal ? loss.focal(pixel, t == loss.background_class) : Real(0);
#pragma unroll
      for (int i = 0; i < kClassTile; ++i) {
        const int k = tile + i;
        if (k < problem.classes) {
          add_to_class(loss, weight, sums + i * kSums, pixel, true, k == t, others.exponential(kHeld ? i : k), focal);
        }
      }
    }
  }

  __shared__ double of_warps[kThreads / kWarp][kClassTile * kSums + 1];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i <= kClassTile * kSums; ++i) {
    const double sum = i < kClassTile * kSums ? warp_sum(sums[i < kClassTile * kSums ? i : 0]) : warp_sum(invalid);
    if (lane == 0) of_warps[warp][i] = sum;
  }
  __syncthreads();
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *ticket = 0;  // of settle
  // A thread for each number of a row of the tile: the sums, and the invalid labels, which are told once, to class 0.
  const int i = threadIdx.x / (kSums + 1), s = threadIdx.x % (kSums + 1), k = tile + i;
  if (i >= kClassTile || k >= problem.classes) return;
  double sum = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) {
    sum += s < kSums ? of_warps[w][i * kSums + s] : k == 0 ? of_warps[w][kClassTile * kSums] : 0.0;
  }
  problem.partial_sums_of(blockIdx.x, k, kSums + 1)[s] = sum;
}

template <int kClassTile, bool kHeld, class Loss, class Logit, class Real>
__global__ void __launch_bounds__(kThreads, kBlocksToFit<Real>)
    map_classes_kernel(const Loss loss, const __grid_constant__ ClassProblem problem) {
  using Table = RegionTable<Loss>;
  constexpr int kCoefficients = Loss::kNumCoefficients;
  const Chunk chunk(problem.images);
  const int tile = blockIdx.y * kClassTile;
  const std::int64_t region = problem.one_region ? 0 : chunk.region;
  const double* rows = problem.table + region * problem.classes * Table::kColumns;
  __shared__ Real coefficients[kMaxClasses][kCoefficients];
  for (int i = threadIdx.x; i < problem.classes * kCoefficients; i += kThreads) {
    const int k = i / kCoefficients, c = i % kCoefficients;
    coefficients[k][c] = static_cast<Real>(rows[k * Table::kColumns + Table::kCoefficients + c]);
  }
  __syncthreads();
  const std::int64_t place = offset_of(problem.upstream, problem.upstream_per_group ? region : 0);
  const Real upstream = static_cast<const Real*>(problem.upstream.data)[place];
  const Real scale_of_all = static_cast<Real>(rows[Table::kScale] * static_cast<double>(upstream));

  for (std::int64_t at = chunk.begin + threadIdx.x; at < chunk.end; at += kThreads) {
    const PixelLabels labels(problem, chunk.region, at);
    Real scale = scale_of_all;
    if constexpr (Loss::kWeighsPixels) {
      if (labels.truth >= 0) scale *= weight_at<Loss, Real>(problem, chunk.region, at);
    }
    Real gradient[kClassTile];
#pragma unroll
    for (int i = 0; i < kClassTile; ++i) gradient[i] = 0;
    if (labels.truth >= 0) {
      const ClassLogits<kClassTile, kHeld, Logit, Real> logits(problem, labels.first);
      if constexpr (Loss::kSoftLabels) {
        const SoftClasses<kClassTile, kHeld, Logit, Real> soft(loss, labels, logits);
        Real of_dominant = 0, of_others = 0;
        for_classes<kClassTile, kHeld>(problem.classes, [&](int k) {
          const SoftClass<Real> one = soft.of_class(k, k);
          const Real added = loss.class_slope(soft.pixel, one, coefficients[k]).to_others;
          of_dominant = add_where(one.dominant, of_dominant, added);
          of_others = add_where(!one.dominant, of_others, added);
        });
        const Real of_all = of_dominant + of_others;
#pragma unroll
        for (int i = 0; i < kClassTile; ++i) {
          const int k = tile + i;
          if (k < problem.classes) {
            const SoftClass<Real> one = soft.of_class(k, i);
            const auto slope = loss.class_slope(soft.pixel, one, coefficients[k]);
            gradient[i] =
                scale * loss.slope_of_logit(one.probability, one.dominant ? one.complement : Real(1),
                                            slope.by_probability, slope.by_label, one.dominant ? of_others : of_all);
          }
        }
      } else {
        const int t = labels.truth;
        const Others<kClassTile, kHeld, Logit, Real> others(logits, problem.classes, t);
        const ClassPixel<Real> pixel = others.class_pixel(problem.classes);
        Real of_true[kCoefficients], weighed = 0;
#pragma unroll
        for (int c = 0; c < kCoefficients; ++c) of_true[c] = coefficients[t][c];
        for_classes<kClassTile, kHeld>(problem.classes, [&](int k) {
          weighed += coefficients[k][Loss::kByFalsePositive] * others.exponential(k);
        });
        const auto slopes = loss.slopes(pixel, of_true, weighed);
#pragma unroll
        for (int i = 0; i < kClassTile; ++i) {
          const int k = tile + i;
          if (k < problem.classes) {
            const Real of_other = loss.slope_of_other(pixel, slopes, coefficients[k][Loss::kByFalsePositive],
                                                      others.exponential(kHeld ? i : k));
            gradient[i] += scale * (k == t ? slopes.of_true : of_other);
          }
        }
      }
    } else if (labels.truth == kInvalidClass) {
#pragma unroll
      for (int i = 0; i < kClassTile; ++i) gradient[i] = scale;  // NaN
    }
#pragma unroll
    for (int i = 0; i < kClassTile; ++i) {
      const int k = tile + i;
      if (k < problem.classes) {
        const std::int64_t to = offset_of(problem.gradient, labels.first + k * problem.images.pixels);
        static_cast<Logit*>(problem.gradient.data)[to] = from_real<Logit>(gradient[i]);
      }
    }
  }
}

}  // namespace rarepixel::cuda
