// Elementary functions of a logit, for one number (GPU, tests) or for many lanes at once (CPU).
//
//   exp_negative(a) = exp(-a), a >= 0        log1p_unit(e) = log(1 + e), 0 <= e <= 1
//   softplus(x)     = log(1 + exp(x))        sigmoid(x)    = 1 / (1 + exp(-x))
//
// They are made of single IEEE operations and of fma where it is written, nothing else, and are compiled without
// contraction: every instruction set and the GPU return the same bits, which is what makes "dropped or not" portable.
// Errors: below 2 units in the last place of the result in float, 4 in double (tests/cpp/test_math.cpp).
//
// None of them overflows, and a NaN comes out as NaN: select() returns its last argument when a comparison fails.
#pragma once

#include <cstdint>
#include <cstring>

#include "compiler.h"

namespace rarepixel {

// ---- One number as a "lane type": what cpu/simd.h gives for many ----

template <class V>
struct LaneTraits {
  using Scalar = V;
  using Mask = bool;
};
template <class V>
using ScalarOf = typename LaneTraits<V>::Scalar;
template <class V>
using MaskOf = typename LaneTraits<V>::Mask;

RAREPIXEL_INLINE float fma(float a, float b, float c) {
#if RAREPIXEL_DEVICE_CODE && defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

RAREPIXEL_INLINE double fma(double a, double b, double c) {
#if RAREPIXEL_DEVICE_CODE && defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

// base^exponent: for the few numbers of a region, not for pixels.
RAREPIXEL_INLINE double power(double base, double exponent) {
#if RAREPIXEL_DEVICE_CODE && defined(__CUDA_ARCH__)
  return pow(base, exponent);
#else
  return __builtin_pow(base, exponent);
#endif
}

RAREPIXEL_INLINE float select(bool condition, float yes, float no) { return condition ? yes : no; }
RAREPIXEL_INLINE double select(bool condition, double yes, double no) { return condition ? yes : no; }

// The smaller and the larger of the two; a NaN x stays NaN.
RAREPIXEL_INLINE float at_most(float bound, float x) { return bound < x ? bound : x; }
RAREPIXEL_INLINE double at_most(double bound, double x) { return bound < x ? bound : x; }
RAREPIXEL_INLINE float at_least(float bound, float x) { return x < bound ? bound : x; }
RAREPIXEL_INLINE double at_least(double bound, double x) { return x < bound ? bound : x; }

RAREPIXEL_INLINE float absolute(float x) { return __builtin_fabsf(x); }
RAREPIXEL_INLINE double absolute(double x) { return __builtin_fabs(x); }

RAREPIXEL_INLINE float add_where(bool condition, float sum, float value) { return condition ? sum + value : sum; }
RAREPIXEL_INLINE double add_where(bool condition, double sum, double value) { return condition ? sum + value : sum; }

// 2^n, a normal number, where `shifted` = n + kRoundingShift: its lowest bits are the exponent field of 2^n.
RAREPIXEL_INLINE float power_of_two(float shifted) {
  std::uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits <<= 23;
  memcpy(&shifted, &bits, sizeof bits);
  return shifted;
}

RAREPIXEL_INLINE double power_of_two(double shifted) {
  std::uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits <<= 52;
  memcpy(&shifted, &bits, sizeof bits);
  return shifted;
}

// ---- Constants ----

// The coefficients of a polynomial, lowest power first.
// Functions hand them out by value: device code cannot refer to static arrays.
template <class Scalar, int kDegree>
struct Polynomial {
  Scalar coefficients[kDegree + 1];
};

template <class Scalar>
struct MathConstants;

// Near-minimax (Remez, relative error) polynomials: exp on [-ln2/2, ln2/2] and log(1 + e) / e on [0, 1], lowest power
// first. Relative errors of the polynomials themselves: 1.9e-9 and 3.1e-8.
template <>
struct MathConstants<float> {
  static constexpr float kLargest = 0x1.fffffep127f;
  static constexpr float kInfinity = __builtin_inff();
  static constexpr float kLargestExponent = 87.0f;  // exp(-87) is still a normal number
  static constexpr float kSmallestNormal = 0x1p-126f;
  // 1.5 * 2^23 and the bias of the exponent: adding it rounds to an integer, and leaves n + 127 in the lowest bits.
  static constexpr float kRoundingShift = 12582912.0f + 127.0f;
  static constexpr float kLog2E = 1.44269502f;
  static constexpr float kLog10E = 0.434294492f;
  static constexpr float kLn2High = 0.693145752f;  // few bits: n * kLn2High is exact
  static constexpr float kLn2Low = 1.42860677e-06f;
  RAREPIXEL_INLINE static constexpr Polynomial<float, 6> exp() {
    return {{1.00000000055e+00f, 1.00000003633e+00f, 4.99999920766e-01f, 1.66664201603e-01f, 4.16682260522e-02f,
             8.37481635578e-03f, 1.38368247283e-03f}};
  }
  RAREPIXEL_INLINE static constexpr Polynomial<float, 8> log1p() {
    return {{9.9999997001e-01f, -4.99994942833e-01f, 3.33191133212e-01f, -2.48430712306e-01f, 1.91062286021e-01f,
             -1.36635055988e-01f, 7.82269937793e-02f, -2.95048541789e-02f, 5.23238362926e-03f}};
  }
};

// Relative errors of the polynomials themselves: 3.1e-18 and 9.1e-18.
template <>
struct MathConstants<double> {
  static constexpr double kLargest = 0x1.fffffffffffffp1023;
  static constexpr double kInfinity = __builtin_inf();
  static constexpr double kLargestExponent = 707.0;
  static constexpr double kSmallestNormal = 0x1p-1022;
  static constexpr double kRoundingShift = 6755399441055744.0 + 1023.0;  // 1.5 * 2^52 and the bias
  static constexpr double kLog2E = 1.4426950408889634;
  static constexpr double kLog10E = 0.43429448190325182;
  static constexpr double kLn2High = 0.6931471803691238;
  static constexpr double kLn2Low = 1.9082149292705877e-10;
  RAREPIXEL_INLINE static constexpr Polynomial<double, 11> exp() {
    return {{0.9999999999999999971, 1.0000000000000000303, 0.50000000000000176873, 0.16666666666666169028,
             0.041666666666492757776, 0.0083333333335591410015, 0.0013888888951225911276, 0.00019841269432878348042,
             0.000024801486519824777397, 2.7557622395285661361e-6, 2.7632293758538474948e-7, 2.4994338718362687739e-8}};
  }
  RAREPIXEL_INLINE static constexpr Polynomial<double, 20> log1p() {
    return {{0.99999999999999999091,    -0.49999999999999184133,   0.33333333333211249791,   -0.24999999992722034569,
             0.19999999769455383424,    -0.16666662178159685872,   0.1428565567759058758,    -0.12499456345009262846,
             0.11107381093673865183,    -0.099805054467645939508,  0.090115497702722361171,  -0.080772760320723587411,
             0.070279788265734302279,   -0.057388161237720942941,  0.042166555645071700455,  -0.026623268812364680994,
             0.013756261994097923856,   -0.0055021371222133375618, 0.0015817103180896837471, -0.00028880661080981977566,
             0.000025041625298475909346}};
  }
};

// ---- Functions ----

template <class V, class Scalar, int kDegree>
RAREPIXEL_INLINE V evaluate(const Polynomial<Scalar, kDegree>& polynomial, V x) {
  V sum(polynomial.coefficients[kDegree]);
  RAREPIXEL_UNROLL
  for (int i = kDegree - 1; i >= 0; --i) sum = fma(sum, x, V(polynomial.coefficients[i]));
  return sum;
}

// What exp_negative() sees of a >= 0.
template <class V>
RAREPIXEL_INLINE V bounded_exponent(V a) {
  using C = MathConstants<ScalarOf<V>>;
  // The lower bound changes no result, which is 1 there, but processors take a hundred times as long over subnormals.
  return at_least(V(C::kSmallestNormal), at_most(V(C::kLargestExponent), a));
}

// exp(-a) for an `a` that is bounded.
template <class V>
RAREPIXEL_INLINE V exp_bounded(V a) {
  using C = MathConstants<ScalarOf<V>>;
  const V shifted = fma(a, V(-C::kLog2E), V(C::kRoundingShift));
  const V n = shifted - V(C::kRoundingShift);
  const V remainder = fma(n, V(-C::kLn2Low), fma(n, V(-C::kLn2High), -a));
  constexpr auto kExp = C::exp();
  return evaluate(kExp, remainder) * power_of_two(shifted);
}

// exp(-a) for a >= 0. Beyond kLargestExponent it stays at its value there (1.6e-38 in float): never 0, never subnormal.
template <class V>
RAREPIXEL_INLINE V exp_negative(V a) {
  return exp_bounded(bounded_exponent(a));
}

template <class V>
RAREPIXEL_INLINE V log1p_unit(V e) {
  using C = MathConstants<ScalarOf<V>>;
  constexpr auto kLog1p = C::log1p();
  return e * evaluate(kLog1p, e);
}

// 1 / (1 + e), 0 <= e <= 1: in float a polynomial and one cubic step of Newton's kind, a third of a division's time.
template <class V>
RAREPIXEL_INLINE V reciprocal_of_one_plus(V e) {
  if constexpr (sizeof(ScalarOf<V>) == 4) {
    constexpr Polynomial<float, 3> kGuess{{0.998266897747f, -0.94280762565f, 0.665511265165f, -0.221837088388f}};
    const V guess = evaluate(kGuess, e);  // relative error 1.8e-3
    const V error = fma(-guess, e, V(1) - guess);
    return fma(fma(error, error, error), guess, guess);
  } else {
    return V(1) / (V(1) + e);
  }
}

// softplus for a caller that needs e = exp(-|x|) as well.
template <class V>
RAREPIXEL_INLINE V softplus(V x, V e) {
  return at_least(V(0), x) + log1p_unit(e);
}

template <class V>
RAREPIXEL_INLINE V softplus(V x) {
  return softplus(x, exp_negative(absolute(x)));
}

template <class V>
RAREPIXEL_INLINE V sigmoid(V x) {
  const V e = exp_negative(absolute(x));
  return select(x < V(0), e, V(1)) * reciprocal_of_one_plus(e);
}

}  // namespace rarepixel
