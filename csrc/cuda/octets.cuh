// Eight pixels at a time in plain form, for the engine: functions that know types, strides and labels, but no loss.
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

// ---- Labels ----

// How a whole number looks as an element of a tensor of labels: element x is that number if (x & mask) == bits. Labels
// are compared as bits, so that one reader serves all types of a size, and none converts. The mask leaves the sign of a
// zero out. The default, for a number that the type cannot hold, equals nothing.
struct LabelCode {
  std::uint64_t bits = 1, mask = 0;
};

template <class T>
__host__ __device__ LabelCode integer_code(std::int64_t number) {
  using Bits = std::make_unsigned_t<T>;
  if (static_cast<std::int64_t>(static_cast<T>(number)) != number) return {};
  return {static_cast<Bits>(number), static_cast<Bits>(-1)};
}

// `real`: the number in the labels' type, with its bits. They are equal if they are as doubles.
template <class Bits>
__host__ __device__ LabelCode real_code(std::int64_t number, double real, Bits bits) {
  if (real != static_cast<double>(number)) return {};
  const Bits all = static_cast<Bits>(-1);
  return {bits, number == 0 ? static_cast<Bits>(all >> 1) : all};
}

__host__ __device__ inline LabelCode code_of(DType dtype, std::int64_t number) {
  const float single = static_cast<float>(number);
  switch (dtype) {
    case DType::kByte: return integer_code<std::uint8_t>(number);
    case DType::kInt8: return integer_code<std::int8_t>(number);
    case DType::kInt16: return integer_code<std::int16_t>(number);
    case DType::kInt32: return integer_code<std::int32_t>(number);
    case DType::kInt64: return integer_code<std::int64_t>(number);
    case DType::kFloat16: return real_code(number, to_float(to_float16(single)), to_float16(single).bits);
    case DType::kBFloat16: return real_code(number, to_float(to_bfloat16(single)), to_bfloat16(single).bits);
    case DType::kFloat64: {
      const double real = static_cast<double>(number);
      std::uint64_t bits;
      memcpy(&bits, &real, sizeof bits);
      return real_code(number, real, bits);
    }
    default: return real_code(number, single, bits_from_float(single));
  }
}

// A byte times this is eight of it.
inline constexpr std::uint64_t kEachByte = 0x0101010101010101u;

// How the labels of a region read, as codes; those of bytes are eight in a row.
struct LabelCodes {
  LabelCode positive, ignored;
  std::uint64_t zero_mask = 0;     // element x is a negative if (x & zero_mask) == 0
  std::int64_t largest_index = 0;  // above 0: of an index map, up to which one labels are negatives, too
  int element_size = 0;

  LabelCodes() = default;
  __host__ __device__ LabelCodes(const Labels& labels, std::int64_t region) {
    const LabelRule rule = rule_of(labels, region);
    const DType dtype = labels.target.dtype;
    positive = code_of(dtype, rule.positive);
    if (labels.has_ignore_index) ignored = code_of(dtype, labels.ignore_index);
    if (rule.largest_negative >= 0) zero_mask = code_of(dtype, 0).mask;
    largest_index = rule.largest_negative;
    element_size = cuda::element_size(dtype);
    if (element_size == 1) {
      for (std::uint64_t* byte : {&positive.bits, &positive.mask, &ignored.bits, &ignored.mask, &zero_mask}) {
        *byte *= kEachByte;
      }
    }
  }
};

// A bit a pixel.
struct OctetLabels {
  std::uint32_t positive = 0, negative = 0, ignored = 0;
};

template <class Bits>
__device__ OctetLabels label_bits(const Elements<Bits>& elements, const LabelCodes& codes) {
  const Bits zero_mask = static_cast<Bits>(codes.zero_mask);
  const Bits positive = static_cast<Bits>(codes.positive.bits);
  const Bits ignored = static_cast<Bits>(codes.ignored.bits), ignored_mask = static_cast<Bits>(codes.ignored.mask);
  OctetLabels bits;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    const Bits element = elements[i];
    bits.positive |= (element == positive ? 1u : 0u) << i;
    bits.negative |= ((element & zero_mask) == 0 ? 1u : 0u) << i;
    bits.ignored |= ((element & ignored_mask) == ignored ? 1u : 0u) << i;
  }
  // The label of positives is not 0: its mask is all or nothing.
  bits.positive &= static_cast<std::uint32_t>(codes.positive.mask);
  return bits;
}

// Which bytes b have (b & mask) == bits. Four at a time: bit 7 of each tells (Warren, "Hacker's Delight", 6-1), and a
// multiplication moves the eight of them together.
__device__ inline std::uint32_t matching_bytes(const Elements<std::uint8_t>& bytes, std::uint64_t bits,
                                               std::uint64_t mask) {
  constexpr std::uint32_t kLow = 0x7f7f7f7fu, kHigh = 0x80808080u;
  std::uint32_t same[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t differs =
        (bytes.words[i] & static_cast<std::uint32_t>(mask)) ^ static_cast<std::uint32_t>(bits);
    same[i] = ~(((differs & kLow) + kLow) | differs) & kHigh;
  }
  return (same[1] | same[0] >> 4) * 0x00204081u >> 24;
}

__device__ inline OctetLabels label_bits(const Elements<std::uint8_t>& bytes, const LabelCodes& codes) {
  return {matching_bytes(bytes, codes.positive.bits, codes.positive.mask), matching_bytes(bytes, 0, codes.zero_mask),
          matching_bytes(bytes, codes.ignored.bits, codes.ignored.mask)};
}

// Whether a label is one of the indices 0 ... largest.
template <class T>
__device__ bool is_index(T label, std::int64_t largest) {
  if constexpr (std::is_integral_v<T>) {
    return label >= 0 && static_cast<std::int64_t>(label) <= largest;
  } else {
    using Real = std::conditional_t<sizeof(T) == 8, double, float>;
    const Real value = to_real<Real>(label);
    return value >= 0 && value < Real(0x1p62) && value == trunc(value) && static_cast<std::int64_t>(value) <= largest;
  }
}

__device__ inline bool is_index_at(const TensorView& target, std::int64_t at, std::int64_t largest) {
  const auto test = [&]<class T>(T) { return is_index(static_cast<const T*>(target.data)[at], largest); };
  switch (target.dtype) {
    case DType::kByte: return test(std::uint8_t{});
    case DType::kInt8: return test(std::int8_t{});
    case DType::kInt16: return test(std::int16_t{});
    case DType::kInt32: return test(std::int32_t{});
    case DType::kInt64: return test(std::int64_t{});
    case DType::kFloat16: return test(Float16{});
    case DType::kBFloat16: return test(BFloat16{});
    case DType::kFloat64: return test(0.0);
    default: return test(0.0f);
  }
}

// Labels one by one: wherever they lie, and where it matters which of them are indices. Neither inlined nor unrolled: it
// would be most of every kernel's code, and of the time to compile it.
static __device__ __noinline__ OctetLabels read_labels_one_by_one(const Labels& labels, LabelCodes codes,
                                                                  std::int64_t first, int count) {
  const TensorView& target = labels.target;
  const std::int64_t stride = target.stride[target.rank - 1];
  OctetLabels bits;
  Place place{0, 0};
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    if (place.left == 0) place = place_of(target, first + i);
    std::uint64_t element;
    if (codes.element_size == 1) element = kEachByte * static_cast<const std::uint8_t*>(target.data)[place.offset];
    else if (codes.element_size == 2) element = static_cast<const std::uint16_t*>(target.data)[place.offset];
    else if (codes.element_size == 4) element = static_cast<const std::uint32_t*>(target.data)[place.offset];
    else element = static_cast<const std::uint64_t*>(target.data)[place.offset];
    const bool negative = codes.largest_index > 0 ? is_index_at(target, place.offset, codes.largest_index)
                                                  : (element & codes.zero_mask) == 0;
    bits.positive |= ((element & codes.positive.mask) == codes.positive.bits ? 1u : 0u) << i;
    bits.negative |= (negative ? 1u : 0u) << i;
    bits.ignored |= ((element & codes.ignored.mask) == codes.ignored.bits ? 1u : 0u) << i;
    place.offset += stride;
    --place.left;
  }
  return bits;
}

template <bool kWide>
__device__ OctetLabels read_labels(const Labels& labels, const LabelCodes& codes, std::int64_t first, int count) {
  if (!kWide || !is_in_pieces(first, count) || codes.largest_index > 0) {
    return read_labels_one_by_one(labels, codes, first, count);
  }
  if (codes.element_size == 1) return label_bits(load_pieces<std::uint8_t>(labels.target, first), codes);
  if (codes.element_size == 4) return label_bits(load_pieces<std::uint32_t>(labels.target, first), codes);
  if (codes.element_size == 2) return label_bits(load_pieces<std::uint16_t>(labels.target, first), codes);
  return label_bits(load_pieces<std::uint64_t>(labels.target, first), codes);
}

template <bool kWide>
__device__ std::uint32_t read_mask(const TensorView& mask, std::int64_t first, int count) {
  return ~matching_bytes(load_octet<kWide, std::uint8_t>(mask, first, count), 0, ~std::uint64_t(0));
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
