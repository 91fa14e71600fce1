// Eight pixels at a time in plain form, for the engine: functions that know types and strides, but no loss.
//
// Eight pixels are what one thread works on together: one byte of kept bits, two counters of random numbers, and 16 or
// more bytes of logits, which are read at once where they lie straight in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "../problem.h"
#include "../region.h"
#include "../rng.h"

namespace rarepixel::cuda {

inline constexpr int kOctet = 8;

// ---- Elements ----

// Where a pixel lies, in elements, and how many pixels from it on lie in one row: `stride[rank - 1]` elements apart.
struct Place {
  std::int64_t offset, left;
};

// Not inlined: its divisions, in every access of every kernel, would be most of the code.
static __device__ __noinline__ Place strided_place(const TensorView& view, std::int64_t pixel) {
  const int last = view.rank - 1;
  const std::int64_t column = pixel % view.size[last];
  Place place{column * view.stride[last], view.size[last] - column};
  pixel /= view.size[last];
  for (int d = last - 1; d > 0; --d) {
    place.offset += pixel % view.size[d] * view.stride[d];
    pixel /= view.size[d];
  }
  place.offset += pixel * view.stride[0];
  return place;
}

// Of pixel number `pixel` of contiguous order.
__device__ inline Place place_of(const TensorView& view, std::int64_t pixel) {
  if (view.rank == 1) return {pixel * view.stride[0], view.size[0] - pixel};
  return strided_place(view, pixel);
}

__device__ inline std::int64_t offset_of(const TensorView& view, std::int64_t pixel) {
  return place_of(view, pixel).offset;
}

// The elements of an octet: small ones packed into words, as they lie in memory, until they are used.
template <class T>
struct Elements {
  static constexpr int kOfWord = sizeof(T) < 4 ? 4 / sizeof(T) : 1;
  using Word = std::conditional_t<sizeof(T) < 4, std::uint32_t, T>;
  Word words[kOctet / kOfWord] = {};

  __device__ T operator[](int i) const {
    if constexpr (kOfWord == 1) {
      return words[i];
    } else {
      const std::uint32_t bits = words[i / kOfWord] >> shift(i);
      T value;
      memcpy(&value, &bits, sizeof value);
      return value;
    }
  }

  // Each once.
  __device__ void set(int i, T value) {
    if constexpr (kOfWord == 1) {
      words[i] = value;
    } else {
      std::uint32_t bits = 0;
      memcpy(&bits, &value, sizeof value);
      words[i / kOfWord] |= bits << shift(i);
    }
  }

 private:
  __device__ static int shift(int i) { return i % kOfWord * 8 * static_cast<int>(sizeof(T)); }
};

// An octet one by one, wherever it lies. Not inlined, like strided_place.
template <class T>
static __device__ __noinline__ Elements<T> load_elements(const TensorView& tensor, std::int64_t first, int count) {
  const T* const from = static_cast<const T*>(tensor.data);
  const std::int64_t stride = tensor.stride[tensor.rank - 1];
  Elements<T> elements;
  Place place{0, 0};
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    if (i >= count) break;
    if (place.left == 0) place = place_of(tensor, first + i);
    elements.set(i, from[place.offset]);
    place.offset += stride;
    --place.left;
  }
  return elements;
}

template <class T>
static __device__ __noinline__ void store_elements(const TensorView& tensor, std::int64_t first, int count,
                                                   Elements<T> elements) {
  T* const to = static_cast<T*>(tensor.data);
  const std::int64_t stride = tensor.stride[tensor.rank - 1];
  Place place{0, 0};
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    if (i >= count) break;
    if (place.left == 0) place = place_of(tensor, first + i);
    to[place.offset] = elements[i];
    place.offset += stride;
    --place.left;
  }
}

// What one access moves: half an octet, or 16 bytes if that is less. Regions start at half octets where both sides of an
// image are even or one is a multiple of 4 (605 x 700); whole ones would ask for more, and save a load of small elements.
inline constexpr int kQuad = kOctet / 2;
template <class T>
inline constexpr int kPieceBytes = std::min<int>(kQuad * sizeof(T), 16);

template <class T>
struct alignas(kPieceBytes<T>) Piece {
  static constexpr int kWords = kPieceBytes<T> / sizeof(typename Elements<T>::Word);
  static constexpr int kCount = kOctet * sizeof(T) / kPieceBytes<T>;  // in an octet
  typename Elements<T>::Word words[kWords];
};

// Whether an octet of a tensor that lies in quads (lies_in_quads below tells) is moved by pieces: those that are whole
// and start at a quad. Regions of odd sizes have others, too.
__device__ inline bool is_in_pieces(std::int64_t first, int count) { return count == kOctet && first % kQuad == 0; }

// The pieces of such an octet, whose elements lie one after the other.
template <class T>
__device__ Piece<T>* pieces_at(const TensorView& tensor, std::int64_t first) {
  const std::int64_t offset = tensor.rank == 1 ? first : strided_place(tensor, first).offset;
  return reinterpret_cast<Piece<T>*>(static_cast<T*>(tensor.data) + offset);
}

template <class T>
__device__ Elements<T> load_pieces(const TensorView& tensor, std::int64_t first) {
  const Piece<T>* const pieces = pieces_at<T>(tensor, first);
  Elements<T> elements;
#pragma unroll
  for (int i = 0; i < Piece<T>::kCount; ++i) {
    const Piece<T> piece = pieces[i];
#pragma unroll
    for (int k = 0; k < Piece<T>::kWords; ++k) elements.words[i * Piece<T>::kWords + k] = piece.words[k];
  }
  return elements;
}

// Elements first .. first + count of a tensor of T, zeros behind them. kWide: the tensor lies in quads.
template <bool kWide, class T>
__device__ Elements<T> load_octet(const TensorView& tensor, std::int64_t first, int count) {
  if (kWide && is_in_pieces(first, count)) return load_pieces<T>(tensor, first);
  return load_elements<T>(tensor, first, count);
}

template <bool kWide, class T>
__device__ void store_octet(const TensorView& tensor, std::int64_t first, int count, const Elements<T>& elements) {
  if (!kWide || !is_in_pieces(first, count)) return store_elements(tensor, first, count, elements);
  Piece<T>* const pieces = pieces_at<T>(tensor, first);
#pragma unroll
  for (int i = 0; i < Piece<T>::kCount; ++i) {
    Piece<T> piece;
#pragma unroll
    for (int k = 0; k < Piece<T>::kWords; ++k) piece.words[k] = elements.words[i * Piece<T>::kWords + k];
    pieces[i] = piece;
  }
}

// Whether the quads of a tensor (or of an absent one) lie straight and aligned, and no row ends within an octet of a
// region that starts at a quad.
inline bool lies_in_quads(const TensorView& view, std::int64_t region_pixels) {
  if (view.data == nullptr || region_pixels == 0) return true;
  const int size = element_size(view.dtype), last = view.rank - 1;
  const int alignment = std::min(kQuad * size, 16);
  bool fits = view.stride[last] == 1 && reinterpret_cast<std::uintptr_t>(view.data) % alignment == 0;
  if (last > 0) {
    const bool rows_hold_octets = view.size[last] % kOctet == 0 || view.size[last] % region_pixels == 0;
    fits = fits && view.size[last] % kQuad == 0 && rows_hold_octets;
  }
  for (int d = 0; d < last; ++d) fits = fits && view.stride[d] * size % alignment == 0;
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

template <class T, class Real>
__device__ void to_reals(const Elements<T>& elements, Real (&to)[kOctet]) {
#pragma unroll
  for (int i = 0; i < kOctet; ++i) to[i] = to_real<Real>(elements[i]);
}

template <bool kWide, class T, class Real>
__device__ void load_reals(const TensorView& tensor, std::int64_t first, int count, Real (&to)[kOctet]) {
  to_reals(load_octet<kWide, T>(tensor, first, count), to);
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
