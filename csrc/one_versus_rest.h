// The classes of a softmax as problems of two classes each: class k against all others together. A loss over sigmoids
// that is given the log-odds for logits is a loss of the softmax's probabilities. With the logits x of a pixel,
//     z_k = log(p_k / (1 - p_k)) = x_k - log(sum over j != k of exp x_j),   so that sigmoid(z_k) = p_k
//     dz_k/dx_k = 1,   dz_k/dx_j = -exp(x_j) / (sum over i != k of exp x_i)
//
// Exponentials are taken once, of all but the largest logit x_t, and relative to the second largest, x_s:
//     e_k = exp(x_k - x_s),   E = sum over k != t of e_k,   r = exp(x_s - x_t)
//     z_t = x_t - x_s - log E,   z_k = x_k - x_t - log S_k,   S_k = 1 + r (E - e_k)
// S_k is a difference, but at least 1; and the gap of the largest logit is not lost in its own exponential, however large
// it is. With the gradients u of the log-odds, those of the logits are, v_k = u_k / S_k and A = sum over k != t of v_k,
//     g_t = u_t - A,   g_k = u_k - e_k (u_t / E + r (A - v_k))
//
// Infinite logits are as large ones in the limit: a class of -infinity is as if it were not there. Without a limit, NaN,
// are two of +infinity, or all of -infinity. A pixel whose u are all 0 has no gradient, not even if a logit is NaN: it
// counts for nothing.
#pragma once

#include "math.h"
#include "problem.h"

namespace rarepixel {

// exp(-a) for a >= 0; 0 where exp_negative would stay at its smallest value.
template <class V>
RAREPIXEL_INLINE V exp_or_zero(V a) {
  return select(V(MathConstants<ScalarOf<V>>::kLargestExponent) < a, V(0), exp_negative(a));
}

// log(x) for 1 <= x <= largest <= 256: what is above 2 is divided by powers of 2 until it is not.
template <class V>
RAREPIXEL_INLINE V log_from_one(V x, int largest) {
  using T = ScalarOf<V>;
  V log(0);
  const auto divide = [&](int bound, T factor, T log_of_factor) {
    if (largest <= bound) return;
    const MaskOf<V> above = V(static_cast<T>(bound)) < x;
    x = select(above, x * V(1 / factor), x);
    log = add_where(above, log, V(log_of_factor));
  };
  divide(16, T(16), static_cast<T>(2.772588722239781238));
  divide(4, T(4), static_cast<T>(1.386294361119890619));
  divide(2, T(2), static_cast<T>(0.693147180559945309));
  return log + log1p_unit(x - V(1));
}

// The two largest logits of a pixel, and the class of the first of the largest. A NaN is neither.
template <class V>
struct TopTwo {
  using T = ScalarOf<V>;
  V top, second, place;

  RAREPIXEL_INLINE explicit TopTwo(V logit_of_class_0)
      : top(logit_of_class_0), second(static_cast<T>(-__builtin_inf())), place(T(0)) {}

  // The classes from 1 on, one after the other.
  RAREPIXEL_INLINE void see(int k, V logit) {
    const MaskOf<V> higher = top < logit;
    second = at_least(second, select(higher, top, logit));
    top = select(higher, logit, top);
    place = select(higher, V(static_cast<T>(k)), place);
  }
};

// A pixel's classes, each against the rest.
template <class V>
class OneVersusRest {
 public:
  RAREPIXEL_INLINE explicit OneVersusRest(const TopTwo<V>& two)
      : top_(two.top),
        second_(at_least(V(-MathConstants<ScalarOf<V>>::kLargest), two.second)),
        place_(two.place),
        gap_(two.top - two.second),
        ratio_(exp_or_zero(gap_)) {}

  RAREPIXEL_INLINE MaskOf<V> is_top(int k) const { return place_ == V(static_cast<ScalarOf<V>>(k)); }

  // e_k, 0 of the top; all are added before anything else is asked. E is at least 1 by the second: or all are 0.
  RAREPIXEL_INLINE V exponential(int k, V logit) const { return select(is_top(k), V(0), exp_or_zero(second_ - logit)); }
  RAREPIXEL_INLINE void add(V exponential) { sum_ = sum_ + exponential; }

  RAREPIXEL_INLINE V log_odds_of_top(int classes) const { return gap_ - log_from_one(sum(), classes - 1); }
  RAREPIXEL_INLINE V log_odds_of_other(V logit, V exponential, int classes) const {
    return logit - top_ - log_from_one(rest(exponential), classes - 1);
  }

  // v_k, 0 of the top.
  RAREPIXEL_INLINE V share(int k, V upstream, V exponential) const {
    return select(is_top(k), V(0), upstream / rest(exponential));
  }
  // `shares`: A.
  RAREPIXEL_INLINE V slope_of_top(V upstream, V shares) const { return upstream - shares; }
  // `upstream_of_top`: u_t / E.
  RAREPIXEL_INLINE V slope_of_other(V upstream, V exponential, V share, V shares, V upstream_of_top) const {
    return upstream - exponential * (upstream_of_top + ratio_ * (shares - share));
  }
  RAREPIXEL_INLINE V sum() const { return at_least(V(1), sum_); }

 private:
  // S_k
  RAREPIXEL_INLINE V rest(V exponential) const { return V(1) + ratio_ * (sum_ - exponential); }

  V top_, second_, place_, gap_, ratio_;
  V sum_{ScalarOf<V>(0)};
};

// Labels of the channels, which losses over sigmoids take with ignore_index = 255.
inline constexpr std::uint8_t kIsRest = 0, kIsClass = 1;
inline constexpr std::uint8_t kNamesNoClass = 2, kCountsForNothing = 255;  // in all channels of a pixel

// What there is to compute of a batch, all [N, C, *] in the shape of the logits.
struct OneVersusRestProblem : ClassProblem {
  TensorView log_odds;                     // float or double
  std::uint8_t* channel_labels = nullptr;  // contiguous
};

// The SIMD half of the CPU engine (cpu/one_versus_rest.h), on chunks first_chunk ... last_chunk - 1 of the images.
struct OneVersusRestKernels {
  // `scratch`: so many bytes for each call.
  std::int64_t (*scratch_bytes)(const ClassProblem& problem);
  void (*log_odds)(const OneVersusRestProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
                   void* scratch);
  // From `upstream`, that of each log-odds, to `gradient`.
  void (*backward)(const OneVersusRestProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk,
                   void* scratch);
  // Returns how many labels that count are invalid.
  std::int64_t (*label)(const OneVersusRestProblem& problem, std::int64_t first_chunk, std::int64_t last_chunk);
};

}  // namespace rarepixel
