// math.h for one number, float against double and double against long double.
//
// Errors are counted in units of the last place of the exact result; the largest of each function are printed.
#include "math.h"

#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "reference.h"

namespace rarepixel::test {
namespace {

template <class T>
struct Wider;
template <>
struct Wider<float> {
  using type = double;
};
template <>
struct Wider<double> {
  using type = long double;
};
template <class T>
using Wide = typename Wider<T>::type;

// The bounds that math.h promises.
template <class T>
constexpr double kPromisedUlps = sizeof(T) == 4 ? 3 : 4;

template <class T>
double error_in_ulps(T got, Wide<T> exact) {
  using Limits = std::numeric_limits<T>;
  int exponent;
  std::frexp(exact, &exponent);
  exponent = std::max(exponent, Limits::min_exponent);
  return static_cast<double>(std::fabs(std::ldexp(static_cast<Wide<T>>(got) - exact, Limits::digits - exponent)));
}

// The largest error of one function, and where.
template <class T>
struct Worst {
  const char* function;
  double ulps = 0;
  T at = 0;

  void see(T x, T got, Wide<T> exact) {
    const double error = error_in_ulps(got, exact);
    if (error > ulps) {
      ulps = error;
      at = x;
    }
    check(error < kPromisedUlps<T>, function, x, got, exact, error);
  }
  void print() const {
    std::printf("%-10s %-24s %.3f ulp at %.9g\n", sizeof(T) == 4 ? "float" : "double", function, ulps,
                static_cast<double>(at));
  }
};

template <class T>
constexpr T kLargestExponent = MathConstants<T>::kLargestExponent;

template <class T>
Wide<T> exact_softplus(T x) {
  const Wide<T> wide = x;
  return std::fmax(wide, Wide<T>(0)) + std::log1p(std::exp(-std::fabs(wide)));
}

template <class T>
Wide<T> exact_sigmoid(T x) {
  return 1 / (1 + std::exp(-static_cast<Wide<T>>(x)));
}

// Dense where the functions bend, and every size from the subnormal numbers up.
template <class T>
std::vector<T> grid_of_logits() {
  std::vector<T> grid;
  const double end = kLargestExponent<T>;
  for (int i = 0; i <= 400000; ++i) grid.push_back(static_cast<T>(end * i / 400000));
  for (int i = 0; i <= 200000; ++i) grid.push_back(static_cast<T>(3.0 * i / 200000));
  // Where exp(-a)'s power of two changes.
  for (int n = 0; n < 1022; ++n) {
    T x = static_cast<T>((n + 0.5) * std::log(2.0));
    if (x > end) break;
    grid.insert(grid.end(), {std::nextafter(x, T(0)), x, std::nextafter(x, T(9999))});
  }
  for (int e = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits; e < 7; ++e) {
    for (const double mantissa : {1.0, 1.1, 1.3, 1.9}) {
      const T x = static_cast<T>(std::ldexp(mantissa, e));
      if (x <= end) grid.push_back(x);
    }
  }
  return grid;
}

template <class T>
void test_accuracy() {
  Worst<T> exp{"exp_negative"}, softplus_positive{"softplus, x >= 0"}, softplus_negative{"softplus, x < 0"};
  Worst<T> sigmoid_worst{"sigmoid"};
  for (const T a : grid_of_logits<T>()) {
    exp.see(a, exp_negative(a), std::exp(-static_cast<Wide<T>>(a)));
    softplus_positive.see(a, softplus(a), exact_softplus(a));
    softplus_negative.see(-a, softplus(-a), exact_softplus(-a));
    sigmoid_worst.see(a, sigmoid(a), exact_sigmoid(a));
    sigmoid_worst.see(-a, sigmoid(-a), exact_sigmoid(-a));
  }
  for (const auto& worst : {exp, softplus_positive, softplus_negative, sigmoid_worst}) worst.print();

  Worst<T> log1p{"log1p_unit"}, reciprocal{"reciprocal_of_one_plus"};
  std::vector<T> units;
  for (int i = 0; i <= 1000000; ++i) units.push_back(static_cast<T>(i / 1e6));
  for (int e = std::numeric_limits<T>::min_exponent - 1; e < 0; ++e) {
    for (const double mantissa : {1.0, 1.2, 1.7}) units.push_back(static_cast<T>(std::ldexp(mantissa, e)));
  }
  for (const T e : units) {
    log1p.see(e, log1p_unit(e), std::log1p(static_cast<Wide<T>>(e)));
    reciprocal.see(e, reciprocal_of_one_plus(e), 1 / (1 + static_cast<Wide<T>>(e)));
  }
  for (const auto& worst : {log1p, reciprocal}) worst.print();
}

// Every 64th float of all: in place, finite, within the bound; far below 0 the value at the clamp.
void test_every_64th_float() {
  Worst<float> worst{"softplus, all floats"};
  const float floor = log1p_unit(exp_negative(kLargestExponent<float>));
  for (std::uint64_t bits = 0; bits < 1ull << 32; bits += 64) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    const float got = softplus(x);
    if (std::isnan(x)) check(std::isnan(got), "softplus of a NaN: bits, got", static_cast<std::uint32_t>(bits), got);
    else if (x < -kLargestExponent<float>) check(got == floor, "softplus far below 0: x, got", x, got);
    else if (!std::isinf(x)) worst.see(x, got, exact_softplus(x));
  }
  worst.print();
}

template <class T>
std::vector<T> special_numbers() {
  using Limits = std::numeric_limits<T>;
  std::vector<T> numbers;
  const T end = kLargestExponent<T>;
  for (const T x : {T(0),
                    Limits::denorm_min(),
                    Limits::min() / 2,
                    Limits::min(),
                    Limits::epsilon(),
                    T(1e-20),
                    T(1e-3),
                    T(1),
                    T(20),
                    T(87),
                    T(87.5),
                    T(88),
                    T(88.8),
                    T(100),
                    T(103.9),
                    T(104),
                    T(700),
                    T(709.8),
                    T(745.2),
                    T(1e4),
                    T(65504),
                    T(1e30),
                    std::nextafter(end, T(0)),
                    end,
                    std::nextafter(end, T(9999)),
                    Limits::max() / 2,
                    Limits::max()}) {
    numbers.push_back(x);
    numbers.push_back(-x);
  }
  return numbers;
}

template <class T>
void test_finite_inputs() {
  for (const T x : special_numbers<T>()) {
    const T e = exp_negative(absolute(x)), s = softplus(x), p = sigmoid(x);
    check(std::isfinite(e) && e <= 1, "exp_negative is finite, at most 1: x, got", x, e);
    check(e >= std::numeric_limits<T>::min(), "exp_negative is never 0, nor subnormal: x, got", x, e);
    check(std::isfinite(s) && s > 0 && s >= x, "softplus is finite, above 0 and above x: x, got", x, s);
    check(std::isfinite(p) && p > 0 && p <= 1, "sigmoid is finite and a probability above 0: x, got", x, p);
  }
  check(exp_negative(T(0)) == 1 && exp_negative(-T(0)) == 1, "exp(0) is 1", exp_negative(T(0)), exp_negative(-T(0)));
  check(sigmoid(T(0)) == T(0.5) && sigmoid(-T(0)) == T(0.5), "sigmoid(0) is 1/2", sigmoid(T(0)), sigmoid(-T(0)));
  check(same(softplus(T(0)), softplus(-T(0))), "softplus does not see the sign of 0", softplus(T(0)), softplus(-T(0)));
  check(log1p_unit(T(0)) == 0, "log1p(0) is 0", log1p_unit(T(0)));
  const T clamped = exp_negative(kLargestExponent<T>);
  for (const T beyond : {kLargestExponent<T> + 1, T(1e4), std::numeric_limits<T>::max()}) {
    check(exp_negative(beyond) == clamped, "exp_negative stays beyond the largest exponent: a, got", beyond,
          exp_negative(beyond));
  }
}

template <class T>
void test_infinities() {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  check(exp_negative(kInfinity) == exp_negative(kLargestExponent<T>), "exp(-inf)", exp_negative(kInfinity));
  check(softplus(kInfinity) == kInfinity, "softplus(inf)", softplus(kInfinity));
  check(softplus(-kInfinity) == softplus(-kLargestExponent<T>), "softplus(-inf)", softplus(-kInfinity));
  check(sigmoid(kInfinity) == 1, "sigmoid(inf)", sigmoid(kInfinity));
  check(sigmoid(-kInfinity) == sigmoid(-kLargestExponent<T>), "sigmoid(-inf)", sigmoid(-kInfinity));
}

// A NaN is any of many bit patterns: the x86 default, what a GPU returns (all ones), and others with low bits set,
// which an exponent made of a NaN's bits would carry into the result.
template <class T>
void test_nans() {
  using Bits = decltype(bits_of(T(0)));
  constexpr Bits kQuiet = sizeof(T) == 4 ? Bits(0x7fc00000u) : Bits(0x7ff8000000000000ull);
  constexpr Bits kSign = Bits(1) << (8 * sizeof(T) - 1);
  std::vector<Bits> payloads = {0, kSign - 1 - kQuiet};
  for (Bits low = 1; low < 0x2000; low += 1) payloads.push_back(low);
  for (const Bits payload : payloads) {
    for (const Bits sign : {Bits(0), kSign}) {
      const T nan = std::bit_cast<T>(static_cast<Bits>(kQuiet | payload | sign));
      const Bits bits = bits_of(nan);
      check(std::isnan(exp_negative(absolute(nan))), "exp_negative of a NaN: bits, got", bits,
            exp_negative(absolute(nan)));
      check(std::isnan(log1p_unit(nan)), "log1p_unit of a NaN: bits, got", bits, log1p_unit(nan));
      check(std::isnan(reciprocal_of_one_plus(nan)), "reciprocal of a NaN: bits, got", bits,
            reciprocal_of_one_plus(nan));
      check(std::isnan(softplus(nan)), "softplus of a NaN: bits, got", bits, softplus(nan));
      check(std::isnan(sigmoid(nan)), "sigmoid of a NaN: bits, got", bits, sigmoid(nan));
      check(std::isnan(at_most(T(1), nan)) && std::isnan(at_least(T(1), nan)), "bounds let a NaN through", bits);
    }
  }
}

template <class T>
void test_small_functions() {
  check(at_most(T(2), T(3)) == 2 && at_most(T(2), T(1)) == 1, "at_most");
  check(at_least(T(2), T(3)) == 3 && at_least(T(2), T(1)) == 2, "at_least");
  check(select(true, T(1), T(2)) == 1 && select(false, T(1), T(2)) == 2, "select");
  check(same(absolute(T(-0.0)), T(0)) && absolute(T(-3)) == 3 && absolute(T(3)) == 3, "absolute");
  check(add_where(true, T(1), T(2)) == 3 && add_where(false, T(1), T(2)) == 1, "add_where");
  constexpr T kShift = MathConstants<T>::kRoundingShift;
  const int largest = std::numeric_limits<T>::max_exponent - 2;
  for (int n = -largest; n <= largest; ++n) {
    const T got = T(1.25) * power_of_two(T(kShift + static_cast<T>(n)));
    check(got == std::ldexp(T(1.25), n), "power_of_two: n, got", n, got);
  }
}

template <class T>
void test_type() {
  test_accuracy<T>();
  test_finite_inputs<T>();
  test_infinities<T>();
  test_nans<T>();
  test_small_functions<T>();
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  test_type<float>();
  test_type<double>();
  test_every_64th_float();
  return check.result();
}
