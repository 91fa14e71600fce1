// The classes of a softmax, each against the rest: log-odds, their derivative, and labels of 0 and 1. A thread sees a
// pixel with all its classes (class_engine.cuh).
#include <torch/csrc/stable/library.h>

#include "../one_versus_rest_tensors.h"
#include "launch.cuh"

namespace rarepixel::cuda {
namespace {

// A pixel's exponentials: in registers like its logits, or computed again.
template <int kClassTile, bool kHeld, class Logit, class Real>
struct RankedPixel {
  const ClassLogits<kClassTile, kHeld, Logit, Real>& logits;
  OneVersusRest<Real> pixel;
  Real held[kHeld ? kClassTile : 1];

  __device__ RankedPixel(const ClassLogits<kClassTile, kHeld, Logit, Real>& of, int classes)
      : logits(of), pixel(rank(of, classes)) {
    for_classes<kClassTile, kHeld>(classes, [&](int k) {
      const Real e = pixel.exponential(k, logits(k));
      if constexpr (kHeld) held[k] = e;
      pixel.add(e);
    });
  }

  __device__ Real exponential(int k) const {
    if constexpr (kHeld) return held[k];
    else return pixel.exponential(k, logits(k));
  }

 private:
  __device__ static OneVersusRest<Real> rank(const ClassLogits<kClassTile, kHeld, Logit, Real>& logits, int classes) {
    TopTwo<Real> two(logits(0));
    for_classes<kClassTile, kHeld>(classes, [&](int k) {
      if (k > 0) two.see(k, logits(k));
    });
    return OneVersusRest<Real>(two);
  }
};

template <int kClassTile, bool kHeld, class Logit, class Real>
__global__ void __launch_bounds__(kThreads) log_odds_kernel(const __grid_constant__ OneVersusRestProblem problem) {
  const Chunk chunk(problem.images);
  const std::int64_t pixels = problem.images.pixels;
  for (std::int64_t at = chunk.begin + threadIdx.x; at < chunk.end; at += kThreads) {
    const std::int64_t first = chunk.region * problem.classes * pixels + at;
    const ClassLogits<kClassTile, kHeld, Logit, Real> logits(problem, first);
    const RankedPixel<kClassTile, kHeld, Logit, Real> ranked(logits, problem.classes);
    const Real of_top = ranked.pixel.log_odds_of_top(problem.classes);
    for_classes<kClassTile, kHeld>(problem.classes, [&](int k) {
      const Real of_other = ranked.pixel.log_odds_of_other(logits(k), ranked.exponential(k), problem.classes);
      const std::int64_t to = offset_of(problem.log_odds, first + k * pixels);
      static_cast<Real*>(problem.log_odds.data)[to] = ranked.pixel.is_top(k) ? of_top : of_other;
    });
  }
}

template <int kClassTile, bool kHeld, class Logit, class Real>
__global__ void __launch_bounds__(kThreads)
    log_odds_backward_kernel(const __grid_constant__ OneVersusRestProblem problem) {
  const Chunk chunk(problem.images);
  const std::int64_t pixels = problem.images.pixels;
  for (std::int64_t at = chunk.begin + threadIdx.x; at < chunk.end; at += kThreads) {
    const std::int64_t first = chunk.region * problem.classes * pixels + at;
    const auto upstream = [&](int k) {
      return static_cast<const Real*>(problem.upstream.data)[offset_of(problem.upstream, first + k * pixels)];
    };
    const auto write = [&](int k, Real slope) {
      const std::int64_t to = offset_of(problem.gradient, first + k * pixels);
      static_cast<Logit*>(problem.gradient.data)[to] = from_real<Logit>(slope);
    };
    bool idle = true;
    for_classes<kClassTile, kHeld>(problem.classes, [&](int k) { idle = idle && upstream(k) == 0; });
    if (idle) {
      for_classes<kClassTile, kHeld>(problem.classes, [&](int k) { write(k, 0); });
      continue;
    }
    const ClassLogits<kClassTile, kHeld, Logit, Real> logits(problem, first);
    const RankedPixel<kClassTile, kHeld, Logit, Real> ranked(logits, problem.classes);
    Real shares = 0, upstream_of_top = 0;
    for_classes<kClassTile, kHeld>(problem.classes, [&](int k) {
      shares += ranked.pixel.share(k, upstream(k), ranked.exponential(k));
      if (ranked.pixel.is_top(k)) upstream_of_top = upstream(k) / ranked.pixel.sum();
    });
    for_classes<kClassTile, kHeld>(problem.classes, [&](int k) {
      const Real u = upstream(k), e = ranked.exponential(k);
      const Real of_other = ranked.pixel.slope_of_other(u, e, ranked.pixel.share(k, u, e), shares, upstream_of_top);
      write(k, ranked.pixel.is_top(k) ? ranked.pixel.slope_of_top(u, shares) : of_other);
    });
  }
}

__global__ void __launch_bounds__(kThreads)
    channel_labels_kernel(const __grid_constant__ OneVersusRestProblem problem) {
  const Chunk chunk(problem.images);
  const std::int64_t pixels = problem.images.pixels;
  for (std::int64_t at = chunk.begin + threadIdx.x; at < chunk.end; at += kThreads) {
    const PixelLabels labels(problem, chunk.region, at);
    const std::uint8_t of_none = labels.truth == kInvalidClass ? kNamesNoClass : kCountsForNothing;
    for (int k = 0; k < problem.classes; ++k) {
      const std::uint8_t label = k == labels.truth ? kIsClass : kIsRest;
      problem.channel_labels[labels.first + k * pixels] = labels.truth < 0 ? of_none : label;
    }
  }
}

// Images of a tensor whose pixels have so many classes.
OneVersusRestProblem problem_of(const Tensor& tensor, std::int64_t classes) {
  return one_versus_rest_of(tensor, classes, plan_images(tensor));
}

Tensor log_odds(const Tensor& logits) {  // [N, C, *]
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  OneVersusRestProblem problem = problem_of(logits, logits.size(1));
  const Tensor result = empty_log_odds(logits);
  problem.logits = view_of(logits);
  problem.log_odds = view_of(result);
  if (grid_for(problem.images) == 0) return result;
  with_classes(problem.classes, problem.logits.dtype,
               [&]<class Tile, class Held, class Logit, class Real>(Tile, Held, Logit, Real) {
                 log_odds_kernel<Tile::value, Held::value, Logit, Real>
                     <<<grid_for(problem.images), kThreads, 0, current_stream(logits)>>>(problem);
                 STD_CUDA_KERNEL_LAUNCH_CHECK();
               });
  return result;
}

Tensor log_odds_backward(const Tensor& upstream,  // [N, C, *], float32 or float64
                         const Tensor& logits) {  // [N, C, *]
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  OneVersusRestProblem problem = problem_of(logits, logits.size(1));
  const Tensor gradient = empty_gradient(logits);
  set_backward(problem, upstream, logits, gradient);
  if (grid_for(problem.images) == 0) return gradient;
  with_classes(problem.classes, problem.logits.dtype,
               [&]<class Tile, class Held, class Logit, class Real>(Tile, Held, Logit, Real) {
                 log_odds_backward_kernel<Tile::value, Held::value, Logit, Real>
                     <<<grid_for(problem.images), kThreads, 0, current_stream(logits)>>>(problem);
                 STD_CUDA_KERNEL_LAUNCH_CHECK();
               });
  return gradient;
}

// Labels of the channels, [N, C, *]. What is invalid the host does not know: there a loss over sigmoids is NaN.
Tensor channel_labels(const Tensor& target,               // [N, 1 or C, *]
                      const std::optional<Tensor>& mask,  // the target's shape
                      std::optional<std::int64_t> ignore_index, std::int64_t classes) {
  const torch::stable::accelerator::DeviceGuard guard(target.get_device_index());
  OneVersusRestProblem problem = problem_of(target, classes);
  Tensor labels = empty_channel_labels(target, classes);
  set_labels(problem, target, mask, ignore_index, labels);
  if (grid_for(problem.images) == 0) return labels;
  channel_labels_kernel<<<grid_for(problem.images), kThreads, 0, current_stream(target)>>>(problem);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return labels;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CUDA, m) {
  m.impl("log_odds", TORCH_BOX(&log_odds));
  m.impl("log_odds_backward", TORCH_BOX(&log_odds_backward));
  m.impl("channel_labels", TORCH_BOX(&channel_labels));
}

}  // namespace rarepixel::cuda
