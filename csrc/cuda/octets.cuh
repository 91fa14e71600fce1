// Eight pixels at a time in plain form, for the engine: functions that know types, strides and labels, but no loss.
//
// Eight pixels are what one thread works on together: one byte of kept bits, two counters of random numbers, and 16 or
// more bytes of logits, which are read at once where they lie straight in memory.
#pragma once

#include <cstdint>

#include "../problem.h"
#include "../region.h"
#include "../rng.h"

namespace rarepixel::cuda {

inline constexpr int kOctet = 8;

// ---- Elements ----

// Not inlined: its divisions, in every access of every kernel, would be most of the code.
static __device__ __noinline__ std::int64_t strided_offset(const TensorView& view, std::int64_t pixel) {
  std::int64_t offset = 0;
  for (int d = view.rank - 1; d > 0; --d) {
    offset += pixel % view.size[d] * view.stride[d];
    pixel /= view.size[d];
  }
  return offset + pixel * view.stride[0];
}

// Where pixel number `pixel` of contiguous order lies, in elements.
__device__ inline std::int64_t offset_of(const TensorView& view, std::int64_t pixel) {
  return view.rank == 1 ? pixel * view.stride[0] : strided_offset(view, pixel);
}

// What one access moves: 16 bytes, or a whole octet if that is less.
template <class T>
inline constexpr int kPieceBytes = sizeof(T) == 1 ? 8 : 16;

template <class T>
struct alignas(kPieceBytes<T>) Piece {
  static constexpr int kSize = kPieceBytes<T> / sizeof(T);
  T values[kSize];
};

// Elements first .. first + count of a tensor of T, the rest of `to` left alone. kWide: they lie straight, from an
// aligned address on, and there are kOctet of them (lies_in_octets below tells).
template <bool kWide, class T>
__device__ void load_octet(const TensorView& tensor, std::int64_t first, int count, T (&to)[kOctet]) {
  const T* from = static_cast<const T*>(tensor.data);
  if constexpr (kWide) {
    const Piece<T>* pieces = reinterpret_cast<const Piece<T>*>(from + offset_of(tensor, first));
#pragma unroll
    for (int i = 0; i < kOctet / Piece<T>::kSize; ++i) {
      const Piece<T> piece = pieces[i];
#pragma unroll
      for (int k = 0; k < Piece<T>::kSize; ++k) to[i * Piece<T>::kSize + k] = piece.values[k];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      if (i < count) to[i] = from[offset_of(tensor, first + i)];
    }
  }
}

template <bool kWide, class T>
__device__ void store_octet(const TensorView& tensor, std::int64_t first, int count, const T (&from)[kOctet]) {
  T* to = static_cast<T*>(tensor.data);
  if constexpr (kWide) {
    Piece<T>* pieces = reinterpret_cast<Piece<T>*>(to + offset_of(tensor, first));
#pragma unroll
    for (int i = 0; i < kOctet / Piece<T>::kSize; ++i) {
      Piece<T> piece;
#pragma unroll
      for (int k = 0; k < Piece<T>::kSize; ++k) piece.values[k] = from[i * Piece<T>::kSize + k];
      pieces[i] = piece;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      if (i < count) to[offset_of(tensor, first + i)] = from[i];
    }
  }
}

// Whether every octet of a tensor (or of an absent one) can be read by kWide accesses. Regions start at octets if their
// pixels fill octets.
inline bool lies_in_octets(const TensorView& view, std::int64_t region_pixels) {
  if (view.data == nullptr) return true;
  constexpr int kElementSize[] = {2, 2, 4, 8, 1, 1, 2, 4, 8};  // by DType
  const int size = kElementSize[static_cast<int>(view.dtype)];
  const int alignment = size == 1 ? 8 : 16;
  bool fits = region_pixels % kOctet == 0 && view.stride[view.rank - 1] == 1 &&
              view.size[view.rank - 1] % kOctet == 0 && reinterpret_cast<std::uintptr_t>(view.data) % alignment == 0;
  for (int d = 0; d < view.rank - 1; ++d) fits = fits && view.stride[d] * size % alignment == 0;
  return fits;
}

// ---- Values ----

template <class Real, class T>
__device__ Real to_real(T value) {
  if constexpr (sizeof(T) == 2) return static_cast<Real>(to_float(value));
  else return static_cast<Real>(value);
}

template <class To, class Real>
__device__ To from_real(Real value) {
  if constexpr (std::is_same_v<To, Float16>) return to_float16(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, BFloat16>) return to_bfloat16(static_cast<float>(value));
  else return static_cast<To>(value);
}

template <bool kWide, class T, class Real>
__device__ void load_reals(const TensorView& tensor, std::int64_t first, int count, Real (&to)[kOctet]) {
  T values[kOctet] = {};
  load_octet<kWide>(tensor, first, count, values);
#pragma unroll
  for (int i = 0; i < kOctet; ++i) to[i] = to_real<Real>(values[i]);
}

// ---- Labels ----

// A bit a pixel.
struct OctetLabels {
  std::uint32_t positive = 0, negative = 0, ignored = 0;
};

template <bool kWide, class T>
__device__ OctetLabels label_bits(const Labels& labels, const LabelRule& rule, std::int64_t first, int count) {
  T values[kOctet] = {};
  load_octet<kWide>(labels.target, first, count, values);
  OctetLabels bits;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    if constexpr (std::is_floating_point_v<T> || sizeof(T) == 2 && !std::is_same_v<T, std::int16_t>) {
      const double value = to_real<double>(values[i]);
      const bool negative = value >= 0 && value <= rule.largest_negative && value == trunc(value);
      bits.positive |= (value == rule.positive ? 1u : 0u) << i;
      bits.negative |= (rule.largest_negative < 0 || negative ? 1u : 0u) << i;
      bits.ignored |= (labels.has_ignore_index && value == static_cast<double>(labels.ignore_index) ? 1u : 0u) << i;
    } else {
      const std::int64_t value = static_cast<std::int64_t>(values[i]);
      bits.positive |= (value == rule.positive ? 1u : 0u) << i;
      bits.negative |= (rule.largest_negative < 0 || (value >= 0 && value <= rule.largest_negative) ? 1u : 0u) << i;
      bits.ignored |= (labels.has_ignore_index && value == labels.ignore_index ? 1u : 0u) << i;
    }
  }
  return bits;
}

// Of any type, wherever they lie. Not inlined: nine readers in every kernel would be most of its code, and of the time
// to compile it.
static __device__ __noinline__ OctetLabels read_labels_anywhere(const Labels& labels, const LabelRule& rule,
                                                                std::int64_t first, int count) {
  switch (labels.target.dtype) {
    case DType::kByte: return label_bits<false, std::uint8_t>(labels, rule, first, count);
    case DType::kInt8: return label_bits<false, std::int8_t>(labels, rule, first, count);
    case DType::kInt16: return label_bits<false, std::int16_t>(labels, rule, first, count);
    case DType::kInt32: return label_bits<false, std::int32_t>(labels, rule, first, count);
    case DType::kInt64: return label_bits<false, std::int64_t>(labels, rule, first, count);
    case DType::kFloat16: return label_bits<false, Float16>(labels, rule, first, count);
    case DType::kBFloat16: return label_bits<false, BFloat16>(labels, rule, first, count);
    case DType::kFloat64: return label_bits<false, double>(labels, rule, first, count);
    default: return label_bits<false, float>(labels, rule, first, count);
  }
}

template <bool kWide>
__device__ OctetLabels read_labels(const Labels& labels, const LabelRule& rule, std::int64_t first, int count) {
  if constexpr (!kWide) return read_labels_anywhere(labels, rule, first, count);
  switch (labels.target.dtype) {
    case DType::kByte: return label_bits<true, std::uint8_t>(labels, rule, first, count);
    case DType::kInt64: return label_bits<true, std::int64_t>(labels, rule, first, count);
    case DType::kFloat16: return label_bits<true, Float16>(labels, rule, first, count);
    case DType::kBFloat16: return label_bits<true, BFloat16>(labels, rule, first, count);
    default: return label_bits<true, float>(labels, rule, first, count);
  }
}

// Whether the type is one that wide kernels read: the others are rare enough for the slower ones.
inline bool has_wide_reader(DType labels) {
  return labels == DType::kByte || labels == DType::kInt64 || labels == DType::kFloat16 || labels == DType::kBFloat16 ||
         labels == DType::kFloat32;
}

template <bool kWide>
__device__ std::uint32_t read_mask(const TensorView& mask, std::int64_t first, int count) {
  std::uint8_t bytes[kOctet] = {};
  load_octet<kWide>(mask, first, count, bytes);
  std::uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) bits |= (bytes[i] != 0 ? 1u : 0u) << i;
  return bits;
}

// ---- Random numbers ----

// The numbers of eight pixels. They are words of two counters, or, if they do not start with the first word of one, of
// three, and are moved to where they belong.
template <class Real>
__device__ void random_octet(const RoundKeys& keys, std::int64_t first, Real (&to)[kOctet]) {
  const std::uint64_t counter = static_cast<std::uint64_t>(first) >> 2;
  std::uint64_t words[kOctet + 4];
  const auto draw = [&](int i) {
    std::uint64_t of_counter[4];
    philox4x32_10(counter + i, keys, of_counter);
#pragma unroll
    for (int k = 0; k < 4; ++k) words[i * 4 + k] = of_counter[k];
  };
  draw(0);
  draw(1);
  if ((first & 3) != 0) {
    draw(2);
    // Chosen, not indexed: an array indexed at run time would leave the registers.
    if ((first & 1) != 0) {
#pragma unroll
      for (int i = 0; i < kOctet + 3; ++i) words[i] = words[i + 1];
    }
    if ((first & 2) != 0) {
#pragma unroll
      for (int i = 0; i < kOctet; ++i) words[i] = words[i + 2];
    }
  }
#pragma unroll
  for (int i = 0; i < kOctet; ++i) to[i] = static_cast<Real>(uniform_from(words[i]));
}

}  // namespace rarepixel::cuda
