// Which of eight labels are positive, negative or ignored: functions that know types and rules, but no loss.
#pragma once

#include "octets.cuh"

namespace rarepixel::cuda {

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

// `real`: the number in the labels' type, with its bits.
template <class Bits>
__host__ __device__ LabelCode real_code(std::int64_t number, double real, Bits bits) {
  if (!is_exactly(real, number)) return {};
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
    element_size = rarepixel::element_size(dtype);
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

}  // namespace rarepixel::cuda
