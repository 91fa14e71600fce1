// dtype.h: every half and bfloat16 to float and back, and the rounding of floats, against arithmetic on doubles
// (reference.h) and, where the compiler has it, _Float16.
#include "dtype.h"

#include <cmath>

#include "check.h"
#include "reference.h"

namespace rarepixel::test {
namespace {

struct HalfFormat {
  using Type = Float16;
  static constexpr int kExponentBits = 5, kMantissaBits = 10;
  static Type from_float(float value) { return to_float16(value); }
};

struct BFloat16Format {
  using Type = BFloat16;
  static constexpr int kExponentBits = 8, kMantissaBits = 7;
  static Type from_float(float value) { return to_bfloat16(value); }
};

template <class Format>
void check_rounding(float value) {
  const std::uint32_t got = Format::from_float(value).bits;
  if (std::isnan(value)) {
    const float back = to_float(typename Format::Type{static_cast<std::uint16_t>(got)});
    check(std::isnan(back), "a NaN stays one: float, half", bits_of(value), got);
    check(std::signbit(back) == std::signbit(value), "a NaN keeps its sign: float, half", bits_of(value), got);
    check((got >> (Format::kMantissaBits - 1) & 1) == 1, "a NaN comes out quiet: float, half", bits_of(value), got);
    return;
  }
  const std::uint32_t expected = encode(value, Format::kExponentBits, Format::kMantissaBits);
  check(got == expected, "rounding: float, its bits, got, expected", value, bits_of(value), got, expected);
#if defined(__FLT16_MANT_DIG__)
  if constexpr (Format::kMantissaBits == 10) {
    const auto native = std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
    check(got == native, "rounding as _Float16 does: float, got, expected", value, got, native);
  }
#endif
}

template <class Format>
void test_all_patterns() {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const typename Format::Type half{static_cast<std::uint16_t>(bits)};
    const float value = to_float(half);
    const double expected = decode(bits, Format::kExponentBits, Format::kMantissaBits);
    if (std::isnan(expected)) {
      check(std::isnan(value), "a NaN to float: bits, got", bits, value);
      check(std::signbit(value) == (bits >= 0x8000), "a NaN's sign: bits, got", bits, value);
    } else {
      check(same<double>(value, expected), "to float: bits, got, expected", bits, value, expected);
      check(Format::from_float(value).bits == bits, "there and back: bits, got", bits, Format::from_float(value).bits);
    }
#if defined(__FLT16_MANT_DIG__)
    if constexpr (Format::kMantissaBits == 10) {
      const float native = static_cast<float>(std::bit_cast<_Float16>(static_cast<std::uint16_t>(bits)));
      check(same(value, native), "to float as _Float16 does: bits, got, expected", bits, value, native);
    }
#endif
  }
}

// Between each number and the next larger one: the middle, and the floats on both sides of it.
template <class Format>
void test_midpoints() {
  const std::uint32_t infinity = ((1u << Format::kExponentBits) - 1) << Format::kMantissaBits;
  for (std::uint32_t bits = 0; bits < infinity; ++bits) {
    const double low = decode(bits, Format::kExponentBits, Format::kMantissaBits);
    double high = decode(bits + 1, Format::kExponentBits, Format::kMantissaBits);
    if (bits + 1 == infinity) high = std::ldexp(1.0, 1 << (Format::kExponentBits - 1));
    const float middle = static_cast<float>((low + high) / 2);
    for (const float value : {static_cast<float>(low), middle}) {
      for (const float sign : {1.0f, -1.0f}) {
        check_rounding<Format>(sign * value);
        check_rounding<Format>(sign * std::nextafterf(value, 0));
        check_rounding<Format>(sign * std::nextafterf(value, HUGE_VALF));
      }
    }
  }
}

template <class Format>
void test_float_patterns() {
  for (std::uint64_t bits = 0; bits < 1ull << 32; bits += 1009) {
    check_rounding<Format>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  constexpr std::uint32_t kSpecial[] = {0x00000000, 0x00000001, 0x007fffff, 0x00800000, 0x33000000,
                                        0x33000001, 0x387fffff, 0x477fefff, 0x477ff000, 0x47800000,
                                        0x7f7fffff, 0x7f7f7fff, 0x7f7f8000, 0x7f800000, 0x7f800001,
                                        0x7f80ffff, 0x7fbfffff, 0x7fc00000, 0x7fffffff, 0x7fffff80};
  for (const std::uint32_t bits : kSpecial) {
    check_rounding<Format>(std::bit_cast<float>(bits));
    check_rounding<Format>(std::bit_cast<float>(bits | 0x80000000u));
  }
}

template <class Format>
void test_format() {
  test_all_patterns<Format>();
  test_midpoints<Format>();
  test_float_patterns<Format>();
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  test_format<HalfFormat>();
  test_format<BFloat16Format>();
  return check.result();
}
