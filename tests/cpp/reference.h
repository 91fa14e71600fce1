// Straightforward second versions of what csrc/ computes cleverly, and shared out of nothing but the papers' formulas.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace rarepixel::test {

// Philox4x32-10 with all four counter words, as in the paper.
inline std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xD2511F53ull * counter[0], b = 0xCD9E8D57ull * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

inline std::array<std::uint32_t, 4> philox(std::uint64_t counter, std::uint64_t seed) {
  return philox({static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 0, 0},
                {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}

// The number of a pixel, in [0, 1).
inline double uniform(std::uint64_t seed, std::uint64_t pixel) {
  return std::floor(philox(pixel / 4, seed)[pixel % 4] / 256.0) / 16777216.0;
}

// The value of a binary format with `exponent_bits` and `mantissa_bits`, in double, which holds all of those below.
inline double decode(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const std::uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double sign = (bits >> (exponent_bits + mantissa_bits)) & 1 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1u << mantissa_bits), exponent - bias - mantissa_bits);
}

// The nearest number of such a format, ties to even; `value` is not a NaN.
inline std::uint32_t encode(double value, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const std::uint32_t sign = std::signbit(value) ? 1u << (exponent_bits + mantissa_bits) : 0;
  const std::uint32_t infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  const double size = std::fabs(value);
  if (size == 0) return sign;
  if (std::isinf(size)) return sign | infinity;
  const int exponent = std::max(std::ilogb(size), 1 - bias);
  // In units of the last place; rint rounds ties to even. The implicit bit, if there, carries into the exponent.
  const double units = std::rint(std::ldexp(size, mantissa_bits - exponent));
  if (std::ldexp(units, exponent - mantissa_bits) >= std::ldexp(1.0, bias + 1)) return sign | infinity;
  return sign + (static_cast<std::uint32_t>(exponent + bias - 1) << mantissa_bits) + static_cast<std::uint32_t>(units);
}

// Numbers in a fixed order, different enough: the tests need variety, not quality (splitmix64).
class Sequence {
 public:
  explicit Sequence(std::uint64_t start) : state_(start) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // From -1 to 1, with the exponent as evenly spread as the mantissa: 2^-spread to 2^spread in size.
  double of_any_size(int spread) {
    const int exponent = static_cast<int>(below(2 * static_cast<std::uint64_t>(spread) + 1)) - spread;
    return std::ldexp(next() & 1 ? 0.5 + unit() / 2 : -0.5 - unit() / 2, exponent);
  }

 private:
  std::uint64_t state_;
};

template <class T>
auto bits_of(T value) {
  if constexpr (sizeof(T) == 4) return std::bit_cast<std::uint32_t>(value);
  else return std::bit_cast<std::uint64_t>(value);
}

// Equal to the last bit, or both NaN, whatever its payload.
template <class T>
bool same(T a, T b) {
  return bits_of(a) == bits_of(b) || (std::isnan(a) && std::isnan(b));
}

}  // namespace rarepixel::test
