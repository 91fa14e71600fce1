// The test of cpu/simd.h and cpu/random.h, compiled once per instruction set by lanes_<isa>.cpp.
//
// What lanes compute must be, to the last bit, what one number gives in lanes_main.cpp, for the default target.
#pragma once

#include "cpu/random.h"

#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "lanes_scalar.h"
#include "reference.h"

namespace rarepixel::RAREPIXEL_ISA {

using namespace rarepixel::test;

template <class T>
using Numbers = std::array<T, kLanes<T>>;

template <class T>
Lanes<T> lanes_of(const Numbers<T>& numbers) {
  return load(numbers.data());
}

template <class T>
Numbers<T> numbers_of(Lanes<T> lanes) {
  Numbers<T> numbers;
  store(numbers.data(), lanes);
  return numbers;
}

template <class T>
constexpr std::uint64_t kAllLanes = (std::uint64_t(1) << kLanes<T>)-1;

// Calls visit(lanes' worth of numbers) until `count` numbers made by make(i) are used up.
template <class T, class Make, class Visit>
void for_batches(int count, const Make& make, const Visit& visit) {
  for (int i = 0; i < count; i += kLanes<T>) {
    Numbers<T> numbers;
    for (int lane = 0; lane < kLanes<T>; ++lane) numbers[lane] = make(i + lane);
    visit(numbers);
  }
}

// ---- Arithmetic ----

template <class T>
struct Triple {
  T a, b, c;
};

template <class T>
void check_fma(const std::vector<Triple<T>>& triples) {
  for (std::size_t i = 0; i < triples.size(); i += kLanes<T>) {
    Numbers<T> a, b, c;
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      const Triple<T>& triple = triples[(i + static_cast<std::size_t>(lane)) % triples.size()];
      a[lane] = triple.a, b[lane] = triple.b, c[lane] = triple.c;
    }
    const Numbers<T> got = numbers_of(fma(lanes_of(a), lanes_of(b), lanes_of(c)));
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      const T expected = ScalarMath<T>::fma(a[lane], b[lane], c[lane]);
      check(same(got[lane], expected), "fma: a, b, c, got, expected", a[lane], b[lane], c[lane], got[lane], expected);
    }
  }
}

// Sums that lie on, or a hair beside, the middle between two floats. Beside: the product is half a unit of c's last
// place times (1 + i 2^-23)(1 - i 2^-23) = 1 - i^2 2^-46, and the hair is lost when the sum is rounded to double.
inline std::vector<Triple<float>> halfway_triples() {
  std::vector<Triple<float>> triples;
  Sequence sequence(5);
  for (int i = 0; i < 20000; ++i) {
    const int exponent = static_cast<int>(sequence.below(200)) - 100;
    const float c = std::ldexp(1 + static_cast<float>(sequence.below(1 << 23)) * 0x1p-23f, exponent);
    const float step = static_cast<float>(sequence.below(300)) * 0x1p-23f;
    const int to_a = static_cast<int>(sequence.below(41)) - 20;
    const float a = std::ldexp(1 + step, to_a), b = std::ldexp(1 - step, exponent - 24 - to_a);
    for (const float product_sign : {1.0f, -1.0f}) {
      for (const float c_sign : {1.0f, -1.0f}) triples.push_back({product_sign * a, b, c_sign * c});
    }
  }
  return triples;
}

template <class T>
void test_fma() {
  using Limits = std::numeric_limits<T>;
  std::vector<Triple<T>> triples;
  Sequence sequence(3);
  // Sizes whose results stay normal: the SSE2 version rounds subnormal results twice, and no loss makes any.
  for (int i = 0; i < 400000; ++i) {
    const T a = static_cast<T>(sequence.of_any_size(20)), b = static_cast<T>(sequence.of_any_size(20));
    T c = static_cast<T>(sequence.of_any_size(45));
    if (i % 4 == 0) c = -a * b;
    if (i % 4 == 1) c = std::nextafter(-a * b, Limits::max());
    triples.push_back({a, b, c});
  }
  const T values[] = {T(0),
                      -T(0),
                      T(1),
                      T(-1),
                      T(3),
                      Limits::max(),
                      -Limits::max(),
                      Limits::infinity(),
                      -Limits::infinity(),
                      Limits::quiet_NaN(),
                      Limits::min()};
  for (const T a : values) {
    for (const T b : values) {
      for (const T c : values) triples.push_back({a, b, c});
    }
  }
  check_fma(triples);
  if constexpr (sizeof(T) == 4) check_fma(halfway_triples());
}

template <class T>
std::vector<T> special_numbers() {
  using Limits = std::numeric_limits<T>;
  return {T(0),
          -T(0),
          Limits::denorm_min(),
          -Limits::denorm_min(),
          Limits::min(),
          T(1),
          T(-1),
          T(2.5),
          T(-2.5),
          T(87),
          T(-87),
          T(1e4),
          T(-1e4),
          Limits::max(),
          Limits::lowest(),
          Limits::infinity(),
          -Limits::infinity(),
          Limits::quiet_NaN(),
          -Limits::quiet_NaN()};
}

// Calls visit(a, b) for all pairs of special numbers, spread over the lanes in changing places.
template <class T, class Visit>
void for_special_pairs(const Visit& visit) {
  const std::vector<T> numbers = special_numbers<T>();
  const int count = static_cast<int>(numbers.size());
  for (int shift = 0; shift < count; ++shift) {
    for (int start = 0; start < count; ++start) {
      Numbers<T> a, b;
      for (int lane = 0; lane < kLanes<T>; ++lane) {
        a[lane] = numbers[(start + lane) % count];
        b[lane] = numbers[(start + lane * 7 + shift) % count];
      }
      visit(a, b);
    }
  }
}

template <class T>
void test_arithmetic() {
  for_special_pairs<T>([](const Numbers<T>& a, const Numbers<T>& b) {
    const Lanes<T> x = lanes_of(a), y = lanes_of(b);
    const auto sum = numbers_of(x + y), difference = numbers_of(x - y), product = numbers_of(x * y);
    const auto quotient = numbers_of(x / y), negated = numbers_of(-x), size = numbers_of(absolute(x));
    const auto most = numbers_of(at_most(x, y)), least = numbers_of(at_least(x, y));
    for (int i = 0; i < kLanes<T>; ++i) {
      check(same(sum[i], a[i] + b[i]), "+", a[i], b[i], sum[i]);
      check(same(difference[i], a[i] - b[i]), "-", a[i], b[i], difference[i]);
      check(same(product[i], a[i] * b[i]), "*", a[i], b[i], product[i]);
      check(same(quotient[i], a[i] / b[i]), "/", a[i], b[i], quotient[i]);
      check(bits_of(negated[i]) == bits_of(-a[i]), "negation", a[i], negated[i]);
      check(bits_of(size[i]) == bits_of(std::fabs(a[i])), "absolute", a[i], size[i]);
      // A comparison with NaN fails, and then the second argument comes out; of two zeros too.
      check(same(most[i], a[i] < b[i] ? a[i] : b[i]), "at_most: bound, x, got", a[i], b[i], most[i]);
      check(same(least[i], b[i] < a[i] ? a[i] : b[i]), "at_least: bound, x, got", a[i], b[i], least[i]);
    }
  });
  for (const T value : special_numbers<T>()) {
    for (const T lane : numbers_of(Lanes<T>(value))) check(same(lane, value), "one value in all lanes", value, lane);
  }
}

template <class T>
void test_power_of_two() {
  const int largest = std::numeric_limits<T>::max_exponent - 2;
  const auto exponent = [&](int i) { return static_cast<T>(i - largest); };
  for_batches<T>(2 * largest + 1, exponent, [&](const Numbers<T>& n) {
    Numbers<T> value;
    for (int i = 0; i < kLanes<T>; ++i) value[i] = T(1) + static_cast<T>(i) / 32;
    const Lanes<T> shifted = lanes_of(n) + Lanes<T>(MathConstants<T>::kRoundingShift);
    const auto got = numbers_of(lanes_of(value) * power_of_two(shifted));
    for (int i = 0; i < kLanes<T>; ++i) {
      if (n[i] > largest) continue;
      check(got[i] == std::ldexp(value[i], static_cast<int>(n[i])), "power_of_two", value[i], n[i], got[i]);
    }
  });
}

// ---- Masks ----

template <class T>
void test_masks() {
  Sequence sequence(11);
  std::vector<std::uint64_t> patterns = {0, ~0ull, 0x5555555555555555ull, 0xaaaaaaaaaaaaaaaaull, 1, kAllLanes<T>};
  for (int i = 0; i < 2000; ++i) patterns.push_back(sequence.next());
  for (std::size_t i = 0; i + 1 < patterns.size(); ++i) {
    const std::uint64_t a = patterns[i], b = patterns[i + 1];
    const Mask<T> x = mask_from_bits<T>(a), y = mask_from_bits<T>(b);
    check(bits_from_mask(x) == (a & kAllLanes<T>), "bits to mask and back", a, bits_from_mask(x));
    check(bits_from_mask(x & y) == (a & b & kAllLanes<T>), "mask &", a, b, bits_from_mask(x & y));
    check(bits_from_mask(x | y) == ((a | b) & kAllLanes<T>), "mask |", a, b, bits_from_mask(x | y));
    check(bits_from_mask(!x) == (~a & kAllLanes<T>), "mask !", a, bits_from_mask(!x));
  }
}

template <class T>
void test_comparisons() {
  for_special_pairs<T>([](const Numbers<T>& a, const Numbers<T>& b) {
    std::uint64_t less = 0, equal = 0;
    for (int i = 0; i < kLanes<T>; ++i) {
      less |= std::uint64_t(a[i] < b[i]) << i;
      equal |= std::uint64_t(a[i] == b[i]) << i;
    }
    check(bits_from_mask(lanes_of(a) < lanes_of(b)) == less, "<", bits_from_mask(lanes_of(a) < lanes_of(b)), less);
    if constexpr (sizeof(T) == 4) {
      const std::uint64_t got = bits_from_mask(lanes_of(a) == lanes_of(b));
      check(got == equal, "==", got, equal);
    }
  });
}

// Which lane is chosen, and that a NaN or an infinity in the other one does not come through.
template <class T>
void test_selection() {
  for (std::uint64_t bits = 0; bits <= kAllLanes<T>; bits += 1 + kAllLanes<T> / 251) {
    const Mask<T> mask = mask_from_bits<T>(bits);
    for_special_pairs<T>([&](const Numbers<T>& a, const Numbers<T>& b) {
      const auto chosen = numbers_of(select(mask, lanes_of(a), lanes_of(b)));
      const auto sum = numbers_of(add_where(mask, lanes_of(a), lanes_of(b)));
      for (int i = 0; i < kLanes<T>; ++i) {
        const bool yes = bits >> i & 1;
        check(same(chosen[i], yes ? a[i] : b[i]), "select: mask, lane, got", bits, i, chosen[i]);
        const T expected = yes ? a[i] + b[i] : a[i];
        // -0 stays -0 or becomes 0, as the instruction set likes: a sum cannot tell.
        check(same(sum[i], expected) || sum[i] == expected, "add_where: mask, lane, got, expected", bits, i, sum[i],
              expected);
      }
    });
  }
}

// ---- Elementary functions ----

template <class T>
void check_functions(const Numbers<T>& x) {
  using Scalar = ScalarMath<T>;
  const Lanes<T> logits = lanes_of(x);
  const auto exponential = numbers_of(exp_negative(absolute(logits)));
  const auto plus = numbers_of(softplus(logits)), probability = numbers_of(sigmoid(logits));
  for (int i = 0; i < kLanes<T>; ++i) {
    const T e = Scalar::exp_negative(x[i]), s = Scalar::softplus(x[i]), p = Scalar::sigmoid(x[i]);
    check(same(exponential[i], e), "exp_negative: x, lane, number", x[i], exponential[i], e);
    check(same(plus[i], s), "softplus: x, lane, number", x[i], plus[i], s);
    check(same(probability[i], p), "sigmoid: x, lane, number", x[i], probability[i], p);
  }
}

template <class T>
void test_functions() {
  for_special_pairs<T>([](const Numbers<T>& a, const Numbers<T>&) { check_functions<T>(a); });
  Sequence sequence(17);
  const auto of_any_size = [&](int) { return static_cast<T>(sequence.of_any_size(sizeof(T) == 4 ? 40 : 60)); };
  const auto usual = [&](int) { return static_cast<T>(200 * sequence.unit() - 100); };
  const auto near_zero = [&](int) { return static_cast<T>(4 * sequence.unit() - 2); };
  for_batches<T>(200000, of_any_size, check_functions<T>);
  for_batches<T>(200000, usual, check_functions<T>);
  for_batches<T>(200000, near_zero, check_functions<T>);
  if constexpr (sizeof(T) == 4) {
    // 4099 floats apart, over all of them.
    const auto patterns = [](int i) { return std::bit_cast<float>(static_cast<std::uint32_t>(i) * 4099u); };
    for_batches<float>(1047807, patterns, check_functions<float>);
  }
}

// ---- Random numbers ----

void check_uniform(std::uint64_t seed, std::int64_t first, int count) {
  constexpr float kUntouched = -7;
  constexpr int kGuard = 64;
  std::vector<float> buffer(static_cast<std::size_t>(count + kUniformSlack + kGuard), kUntouched);
  const float* filled = fill_uniform(seed, first, count, buffer.data());
  check(filled >= buffer.data() && filled + count <= buffer.data() + count + kUniformSlack,
        "fill_uniform: the result lies in the buffer", first, count);
  for (int i = 0; i < count; ++i) {
    const double expected = uniform(seed, static_cast<std::uint64_t>(first + i));
    check(filled[i] == expected, "fill_uniform: seed, first, i, got, expected", seed, first, i, filled[i], expected);
  }
  for (int i = 0; i < kGuard; ++i) {
    check(buffer[static_cast<std::size_t>(count + kUniformSlack + i)] == kUntouched,
          "fill_uniform: wrote beyond its slack: first, count, at", first, count, i);
  }
}

void test_uniform() {
  for (int offset = 0; offset < 4; ++offset) {
    for (int count = 1; count <= 300; ++count) check_uniform(99, 4 * 1000 + offset, count);
    // Pixel 2^34 is the first of counter 2^32.
    for (const std::int64_t start :
         {std::int64_t(0), std::int64_t(1) << 31, std::int64_t(1) << 32, (std::int64_t(1) << 34) - 1024,
          (std::int64_t(1) << 34) - 4, std::int64_t(1) << 45}) {
      for (const std::uint64_t seed : {0ull, 0xffffffffull, 0x123456789abcdef0ull, ~0ull}) {
        for (const int count : {63, 64, 1999, 2048}) check_uniform(seed, start + offset, count);
      }
    }
  }
}

template <class T>
void test_type() {
  test_fma<T>();
  test_arithmetic<T>();
  test_power_of_two<T>();
  test_masks<T>();
  test_comparisons<T>();
  test_selection<T>();
  test_functions<T>();
}

}  // namespace rarepixel::RAREPIXEL_ISA

int rarepixel::test::run_lanes() {
  using namespace rarepixel::RAREPIXEL_ISA;
  test_type<float>();
  test_type<double>();
  test_uniform();
  return check.result();
}
