// Element types that the engines read and write, and the two half formats as bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "compiler.h"

#if RAREPIXEL_DEVICE_CODE
#include <cuda_fp16.h>
#endif

namespace rarepixel {

enum class DType : int { kFloat16, kBFloat16, kFloat32, kFloat64, kByte, kInt8, kInt16, kInt32, kInt64 };

// In bytes.
RAREPIXEL_INLINE int element_size(DType dtype) {
  switch (dtype) {
    case DType::kByte:
    case DType::kInt8: return 1;
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kInt16: return 2;
    case DType::kFloat64:
    case DType::kInt64: return 8;
    default: return 4;
  }
}

struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

RAREPIXEL_INLINE float float_from_bits(std::uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
RAREPIXEL_INLINE std::uint32_t bits_from_float(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Conversions without branches, so that loops over them vectorise. Both ways are exact or round to nearest even.
RAREPIXEL_INLINE float to_float(BFloat16 half) { return float_from_bits(static_cast<std::uint32_t>(half.bits) << 16); }

RAREPIXEL_INLINE float to_float(Float16 half) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(half.bits));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000u) << 16;
  const std::uint32_t rest = static_cast<std::uint32_t>(half.bits & 0x7fffu) << 13;
  // 2^112 moves the exponent's bias from 15 to 127 and makes normal numbers of subnormal ones.
  const std::uint32_t finite = bits_from_float(float_from_bits(rest) * 0x1p112f);
  const std::uint32_t special = rest | 0x7f800000u;  // infinity and NaN
  return float_from_bits(sign | (rest >= 0x0f800000u ? special : finite));
#endif
}

RAREPIXEL_INLINE BFloat16 to_bfloat16(float value) {
  const std::uint32_t bits = bits_from_float(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return {static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded)};
}

RAREPIXEL_INLINE Float16 to_float16(float value) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(value))};
#else
  const std::uint32_t bits = bits_from_float(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t rest = bits & 0x7fffffffu;
  // Normal halves: the bias moves by -112 in the exponent and 13 bits are rounded off. A carry into the exponent is
  // right, up to infinity. Subnormal halves: adding 1/2 leaves value * 2^24, rounded, in the lowest bits.
  const std::uint32_t normal = (rest - (112u << 23) + 0xfffu + ((rest >> 13) & 1u)) >> 13;
  const std::uint32_t subnormal = bits_from_float(float_from_bits(rest) + 0.5f) - 0x3f000000u;
  const std::uint32_t infinite_or_nan = rest > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const std::uint32_t finite = rest < (113u << 23) ? subnormal : normal;
  return {static_cast<std::uint16_t>(sign | (rest >= 0x477ff000u ? infinite_or_nan : finite))};
#endif
}

// Whether a real number is this whole one: a label and an ignore_index that its type may not hold.
RAREPIXEL_INLINE bool is_exactly(double real, std::int64_t number) {
  if (!(real >= -0x1p63 && real < 0x1p63)) return false;
  const std::int64_t whole = static_cast<std::int64_t>(real);
  return whole == number && static_cast<double>(whole) == real;
}

}  // namespace rarepixel
