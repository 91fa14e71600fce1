// Blocks of pixels in plain form, for the engine: functions that know types, strides and labels, but no loss.
//
// Logits become float or double, labels two bits a pixel (positive, counts), random numbers an array. What already lies
// in plain form is used where it lies.
#pragma once

#include "kernels.h"
#include "random.h"

namespace rarepixel::RAREPIXEL_ISA {

inline constexpr int kWord = 64;  // pixels of one word of bits
inline constexpr int kBlockWords = kBlock / kWord;

RAREPIXEL_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
RAREPIXEL_INLINE int words_for(std::int64_t pixels) { return static_cast<int>((pixels + kWord - 1) / kWord); }

// ---- Reading and writing tensors ----

// Calls run(element offset, stride, length) for the straight runs that pixels first .. first + count consist of.
template <class Run>
RAREPIXEL_INLINE void for_each_run(const TensorView& tensor, std::int64_t first, std::int64_t count, const Run& run) {
  const int inner = tensor.rank - 1;
  while (count > 0) {
    std::int64_t rest = first, offset = 0;
    for (int d = inner; d > 0; --d) {
      offset += rest % tensor.size[d] * tensor.stride[d];
      rest /= tensor.size[d];
    }
    offset += rest * tensor.stride[0];
    const std::int64_t length = smaller(count, tensor.size[inner] - first % tensor.size[inner]);
    run(offset, tensor.stride[inner], length);
    first += length;
    count -= length;
  }
}

RAREPIXEL_INLINE bool is_straight(const TensorView& tensor, DType dtype) {
  return tensor.rank == 1 && tensor.stride[0] == 1 && tensor.dtype == dtype;
}

// Asks for a word of pixels of the block to come, where it lies in place: a block is read in bursts, and the memory
// would rest while the loss computes. Addresses beyond the tensor do no harm.
RAREPIXEL_INLINE void prefetch_word(const TensorView& tensor, std::int64_t first) {
  if (!is_straight(tensor, DType::kFloat32)) return;
  const float* from = static_cast<const float*>(tensor.data) + first;
#pragma GCC unroll 4
  for (int i = 0; i < kWord; i += 16) __builtin_prefetch(from + i);
}

template <class Real>
inline constexpr DType kDTypeOf = sizeof(Real) == 4 ? DType::kFloat32 : DType::kFloat64;

template <class Real, class From>
RAREPIXEL_INLINE Real to_real(From value) {
  if constexpr (sizeof(From) == 2) return static_cast<Real>(to_float(value));
  else return static_cast<Real>(value);
}

template <class From, class Real>
void read_as(const TensorView& tensor, std::int64_t first, std::int64_t count, Real* to) {
  const From* from = static_cast<const From*>(tensor.data);
  for_each_run(tensor, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    if (stride == 1) {
      for (std::int64_t i = 0; i < length; ++i) to[i] = to_real<Real>(from[offset + i]);
    } else {
      for (std::int64_t i = 0; i < length; ++i) to[i] = to_real<Real>(from[offset + i * stride]);
    }
    to += length;
  });
}

// Pixels first .. first + count as Real, followed by zeros up to a whole word: in place if they lie so, else in
// `buffer`.
template <class Real>
const Real* read_block(const TensorView& tensor, std::int64_t first, int count, Real* buffer) {
  if (is_straight(tensor, kDTypeOf<Real>) && count % kWord == 0) return static_cast<const Real*>(tensor.data) + first;
  switch (tensor.dtype) {
    case DType::kFloat16: read_as<Float16>(tensor, first, count, buffer); break;
    case DType::kBFloat16: read_as<BFloat16>(tensor, first, count, buffer); break;
    case DType::kFloat64: read_as<double>(tensor, first, count, buffer); break;
    default: read_as<float>(tensor, first, count, buffer);
  }
  for (int i = count; i < words_for(count) * kWord; ++i) buffer[i] = Real(0);
  return buffer;
}

template <class To, class Real>
RAREPIXEL_INLINE To from_real(Real value) {
  if constexpr (__is_same(To, Float16)) return to_float16(static_cast<float>(value));
  else if constexpr (__is_same(To, BFloat16)) return to_bfloat16(static_cast<float>(value));
  else return static_cast<To>(value);
}

template <class To, class Real>
void write_as(const TensorView& tensor, std::int64_t first, std::int64_t count, const Real* from) {
  To* to = static_cast<To*>(tensor.data);
  for_each_run(tensor, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    if (stride == 1) {
      for (std::int64_t i = 0; i < length; ++i) to[offset + i] = from_real<To>(from[i]);
    } else {
      for (std::int64_t i = 0; i < length; ++i) to[offset + i * stride] = from_real<To>(from[i]);
    }
    from += length;
  });
}

template <class Real>
void write_block(const TensorView& tensor, std::int64_t first, int count, const Real* from) {
  switch (tensor.dtype) {
    case DType::kFloat16: return write_as<Float16>(tensor, first, count, from);
    case DType::kBFloat16: return write_as<BFloat16>(tensor, first, count, from);
    case DType::kFloat64: return write_as<double>(tensor, first, count, from);
    default: return write_as<float>(tensor, first, count, from);
  }
}

// ---- Labels as bits ----

struct LabelBits {
  std::uint64_t positive[kBlockWords];
  std::uint64_t counts[kBlockWords];
};

// What a label is, as a byte: bit 0 positive, bit 1 negative, bit 2 ignored; none of them: invalid.
enum LabelCode : std::uint8_t { kIsPositive = 1, kIsNegative = 2, kIsIgnored = 4 };

// ignore_index in the labels' own type; labels cannot hold it if it does not survive the conversion.
template <class T>
struct IgnoreIndex {
  bool possible;
  T value;
};

template <class T>
RAREPIXEL_INLINE IgnoreIndex<T> ignore_index_as(const Labels& labels) {
  if constexpr (sizeof(T) == 2 && !__is_same(T, std::int16_t)) {
    const T half = from_real<T>(static_cast<float>(labels.ignore_index));
    const double value = to_float(half);
    return {labels.has_ignore_index && value == static_cast<double>(labels.ignore_index), half};
  } else {
    const T value = static_cast<T>(labels.ignore_index);
    return {labels.has_ignore_index && static_cast<std::int64_t>(value) == labels.ignore_index, value};
  }
}

template <class T>
RAREPIXEL_INLINE auto label_value(T value) {
  if constexpr (sizeof(T) == 2 && !__is_same(T, std::int16_t)) return to_float(value);
  else return value;
}

// A rule in the labels' own type: comparing in it, without branches, is what vectorises.
template <class Label>
struct TypedRule {
  bool has_positive;  // the type can hold it
  Label positive;
  bool any_negative;
  Label largest_negative;

  static constexpr bool kIsWhole = static_cast<Label>(0.5) == Label(0);
  static constexpr Label kHighest =
      static_cast<Label>(!kIsWhole                           ? 1 << 24
                         : static_cast<Label>(-1) > Label(0) ? -1
                                                             : (std::uint64_t(1) << (8 * sizeof(Label) - 1)) - 1);

  explicit TypedRule(const LabelRule& rule)
      : has_positive(static_cast<std::int64_t>(static_cast<Label>(rule.positive)) == rule.positive),
        positive(static_cast<Label>(rule.positive)),
        any_negative(rule.largest_negative < 0),
        largest_negative(rule.largest_negative < kHighest ? static_cast<Label>(rule.largest_negative) : kHighest) {}

  RAREPIXEL_INLINE bool is_positive(Label label) const { return has_positive & (label == positive); }
  RAREPIXEL_INLINE bool is_negative(Label label) const {
    bool whole = true;
    if constexpr (!kIsWhole) whole = static_cast<Label>(static_cast<std::int32_t>(label)) == label;
    return (!is_positive(label)) & (any_negative | ((label >= Label(0)) & (label <= largest_negative) & whole));
  }
};

template <bool kIndexMap, class T>
void read_label_codes(const Labels& labels, const LabelRule& rule, std::int64_t first, std::int64_t count,
                      std::uint8_t* codes) {
  const T* from = static_cast<const T*>(labels.target.data);
  const IgnoreIndex<T> ignore = ignore_index_as<T>(labels);
  const auto ignored = label_value(ignore.value);
  const std::uint8_t ignored_code = ignore.possible ? kIsIgnored : 0;
  [[maybe_unused]] const TypedRule<decltype(label_value(T{}))> typed(rule);
  for_each_run(labels.target, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) {
      const auto label = label_value(from[offset + i * stride]);
      bool positive, negative;
      if constexpr (kIndexMap) {
        positive = typed.is_positive(label);
        negative = typed.is_negative(label);
      } else {
        positive = label == 1;
        negative = label == 0;
      }
      codes[i] = static_cast<std::uint8_t>((positive ? kIsPositive : 0) | (negative ? kIsNegative : 0) |
                                           (label == ignored ? ignored_code : 0));
    }
    codes += length;
  });
}

// One bit for each of 64 bytes: whether the byte has `flag` set.
RAREPIXEL_INLINE std::uint64_t bits_from_bytes(const std::uint8_t* bytes, std::uint8_t flag) {
  std::uint64_t bits = 0;
#if defined(RAREPIXEL_AVX512)
  bits = _mm512_test_epi8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8(static_cast<char>(flag)));
#elif defined(RAREPIXEL_AVX2)
  const __m256i wanted = _mm256_set1_epi8(static_cast<char>(flag));
  for (int i = 0; i < kWord; i += 32) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + i));
    const __m256i unset = _mm256_cmpeq_epi8(_mm256_and_si256(some, wanted), _mm256_setzero_si256());
    bits |= static_cast<std::uint64_t>(~static_cast<std::uint32_t>(_mm256_movemask_epi8(unset))) << i;
  }
#elif defined(__x86_64__)
  const __m128i wanted = _mm_set1_epi8(static_cast<char>(flag));
  for (int i = 0; i < kWord; i += 16) {
    const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i));
    const __m128i unset = _mm_cmpeq_epi8(_mm_and_si128(some, wanted), _mm_setzero_si128());
    bits |= (static_cast<std::uint64_t>(~_mm_movemask_epi8(unset)) & 0xffffu) << i;
  }
#else
  for (int i = 0; i < kWord; ++i) bits |= static_cast<std::uint64_t>((bytes[i] & flag) != 0) << i;
#endif
  return bits;
}

RAREPIXEL_INLINE std::uint64_t bits_equal(const float* labels, float value) {
  std::uint64_t bits = 0;
#pragma GCC unroll 4
  for (int i = 0; i < kWord; i += kLanes<float>) {
    bits |= bits_from_mask(load(labels + i) == Lanes<float>(value)) << i;
  }
  return bits;
}

// The labels of a block as they are found: floats that lie straight in memory, or codes made of anything else.
struct LabelBlock {
  const float* floats;  // null: look at codes
  alignas(64) std::uint8_t codes[kBlock];
};

template <bool kIndexMap>
void read_label_codes(const Labels& labels, const LabelRule& rule, std::int64_t first, int count, std::uint8_t* to) {
  switch (labels.target.dtype) {
    case DType::kByte: return read_label_codes<kIndexMap, std::uint8_t>(labels, rule, first, count, to);
    case DType::kInt8: return read_label_codes<kIndexMap, std::int8_t>(labels, rule, first, count, to);
    case DType::kInt16: return read_label_codes<kIndexMap, std::int16_t>(labels, rule, first, count, to);
    case DType::kInt32: return read_label_codes<kIndexMap, std::int32_t>(labels, rule, first, count, to);
    case DType::kInt64: return read_label_codes<kIndexMap, std::int64_t>(labels, rule, first, count, to);
    case DType::kFloat16: return read_label_codes<kIndexMap, Float16>(labels, rule, first, count, to);
    case DType::kBFloat16: return read_label_codes<kIndexMap, BFloat16>(labels, rule, first, count, to);
    case DType::kFloat32: return read_label_codes<kIndexMap, float>(labels, rule, first, count, to);
    case DType::kFloat64: return read_label_codes<kIndexMap, double>(labels, rule, first, count, to);
  }
}

inline void read_label_block(const Labels& labels, const LabelRule& rule, std::int64_t first, int count,
                             LabelBlock& block) {
  block.floats = nullptr;
  if (labels.channels > 0) return read_label_codes<true>(labels, rule, first, count, block.codes);
  if (is_straight(labels.target, DType::kFloat32) && count % kWord == 0) {
    block.floats = static_cast<const float*>(labels.target.data) + first;
    return;
  }
  read_label_codes<false>(labels, rule, first, count, block.codes);
}

// Which pixels of a block are positive. Bits beyond count are rubbish.
inline void read_positives(const Labels& labels, const LabelRule& rule, std::int64_t first, int count,
                           std::uint64_t* positive) {
  LabelBlock block;
  read_label_block(labels, rule, first, count, block);
  for (int w = 0; w < words_for(count); ++w) {
    positive[w] = block.floats != nullptr ? bits_equal(block.floats + w * kWord, 1)
                                          : bits_from_bytes(block.codes + w * kWord, kIsPositive);
  }
}

// One byte a pixel, 0 or 1.
inline void read_mask(const TensorView& mask, std::int64_t first, std::int64_t count, std::uint8_t* to) {
  const std::uint8_t* from = static_cast<const std::uint8_t*>(mask.data);
  for_each_run(mask, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) to[i] = from[offset + i * stride] != 0;
    to += length;
  });
}

// Which pixels of a block's word w are there at all.
RAREPIXEL_INLINE std::uint64_t bits_within(int count, int w) {
  const int left = count - w * kWord;
  return left < kWord ? (std::uint64_t(1) << left) - 1 : ~std::uint64_t(0);
}

// Which pixels are positive and which count (zeros beyond count); returns how many labels that count are invalid.
inline std::int64_t read_labels(const Labels& labels, const LabelRule& rule, std::int64_t first, int count,
                                LabelBits& bits) {
  LabelBlock block;
  read_label_block(labels, rule, first, count, block);
  alignas(64) std::uint8_t mask[kBlock];
  const bool masked = labels.mask.data != nullptr;
  if (masked) read_mask(labels.mask, first, count, mask);
  const IgnoreIndex<float> ignore = ignore_index_as<float>(labels);
  std::int64_t invalid = 0;
  for (int w = 0; w < words_for(count); ++w) {
    std::uint64_t positive, negative, ignored = 0;
    if (block.floats != nullptr) {
      const float* floats = block.floats + w * kWord;
      positive = bits_equal(floats, 1);
      negative = bits_equal(floats, 0);
      if (ignore.possible) ignored = bits_equal(floats, ignore.value);
    } else {
      const std::uint8_t* codes = block.codes + w * kWord;
      positive = bits_from_bytes(codes, kIsPositive);
      negative = bits_from_bytes(codes, kIsNegative);
      ignored = bits_from_bytes(codes, kIsIgnored);
    }
    std::uint64_t counts = ~ignored & bits_within(count, w);
    if (masked) counts &= bits_from_bytes(mask + w * kWord, 1);
    invalid += __builtin_popcountll(counts & ~(positive | negative));
    bits.positive[w] = positive;
    bits.counts[w] = counts;
  }
  return invalid;
}

// Labels that are numbers, up to a whole word beyond count; no bit is positive. Invalid are those outside 0 ... 1.
template <class Real>
std::int64_t read_soft_labels(const Labels& labels, std::int64_t first, int count, Real* to, LabelBits& bits) {
  const Real* values = read_block(labels.target, first, count, to);
  alignas(64) std::uint8_t mask[kBlock];
  const bool masked = labels.mask.data != nullptr;
  if (masked) read_mask(labels.mask, first, count, mask);
  const IgnoreIndex<Real> ignore = ignore_index_as<Real>(labels);
  std::int64_t invalid = 0;
  for (int w = 0; w < words_for(count); ++w) {
    std::uint64_t ignored = 0, outside = 0;
    for (int i = 0; i < kWord; i += kLanes<Real>) {
      const Lanes<Real> label = load(values + w * kWord + i);
      if (ignore.possible) ignored |= bits_from_mask(label == Lanes<Real>(ignore.value)) << i;
      const Mask<Real> below = label < Lanes<Real>(Real(0)), above = Lanes<Real>(Real(1)) < label;
      const Mask<Real> not_a_number = !(label == label);
      outside |= bits_from_mask(below | above | not_a_number) << i;
      store(to + w * kWord + i, label);
    }
    std::uint64_t counts = ~ignored & bits_within(count, w);
    if (masked) counts &= bits_from_bytes(mask + w * kWord, 1);
    invalid += __builtin_popcountll(counts & outside);
    bits.positive[w] = 0;
    bits.counts[w] = counts;
  }
  return invalid;
}

// ---- Random numbers of a block ----

template <class Real>
RAREPIXEL_INLINE const Real* read_uniform(const ReduceProblem& problem, std::int64_t first, int count, Real* buffer) {
  if (problem.uniform.data != nullptr) return read_block(problem.uniform, first, count, buffer);
  const int whole = words_for(count) * kWord;
  if constexpr (sizeof(Real) == 4) {
    return fill_uniform(problem.seed, first, whole, buffer);
  } else {
    alignas(64) float singles[kBlock + kUniformSlack];
    const float* filled = fill_uniform(problem.seed, first, whole, singles);
    for (int i = 0; i < whole; ++i) buffer[i] = filled[i];
    return buffer;
  }
}

// ---- Segments of a block ----

// The weight of each pixel's segment, 0 outside every range and up to a whole word beyond count.
template <class Real>
void read_segment_weights(const Segments& segments, std::int64_t image, std::int64_t first, int count, Real* to) {
  const std::int32_t* ids = static_cast<const std::int32_t*>(segments.ids.data) + first;
  const Real* weights = static_cast<const Real*>(segments.weights) + segments.starts[image];
  for (int w = 0; w < words_for(count); ++w, ids += kWord, to += kWord) {
    const int left = static_cast<int>(smaller(kWord, count - w * kWord));
    alignas(64) std::int32_t rest[kWord] = {};
    if (left < kWord) memcpy(rest, ids, left * sizeof(std::int32_t));
    const std::int32_t* from = left < kWord ? rest : ids;
    std::int32_t any = 0;
    for (int i = 0; i < kWord; ++i) any |= from[i];
    if (any == 0) {
      for (int i = 0; i < kWord; ++i) to[i] = Real(0);
    } else {
      for (int i = 0; i < kWord; i += kLanes<Real>) store(to + i, look_up(weights, from + i));
    }
  }
}

}  // namespace rarepixel::RAREPIXEL_ISA
