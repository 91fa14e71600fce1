// The readers and writers that blocks.h declares, of all types and layouts: most of what there is to compile, and the
// same for every loss.
#pragma once

#include "elements.h"

namespace rarepixel::RAREPIXEL_ISA {

// ---- Tensors ----

template <class Real>
void convert_block(const TensorView& tensor, std::int64_t first, int count, Real* buffer) {
  switch (tensor.dtype) {
    case DType::kFloat16: read_as<Float16>(tensor, first, count, buffer); break;
    case DType::kBFloat16: read_as<BFloat16>(tensor, first, count, buffer); break;
    case DType::kFloat64: read_as<double>(tensor, first, count, buffer); break;
    default: read_as<float>(tensor, first, count, buffer);
  }
  for (int i = count; i < words_for(count) * kWord; ++i) buffer[i] = Real(0);
}

template void convert_block(const TensorView&, std::int64_t, int, float*);
template void convert_block(const TensorView&, std::int64_t, int, double*);

template <class Real>
void write_block(const TensorView& tensor, std::int64_t first, int count, const Real* from) {
  switch (tensor.dtype) {
    case DType::kFloat16: return write_as<Float16>(tensor, first, count, from);
    case DType::kBFloat16: return write_as<BFloat16>(tensor, first, count, from);
    case DType::kFloat64: return write_as<double>(tensor, first, count, from);
    default: return write_as<float>(tensor, first, count, from);
  }
}
template void write_block(const TensorView&, std::int64_t, int, const float*);
template void write_block(const TensorView&, std::int64_t, int, const double*);

template <class Real>
Real read_element(const TensorView& tensor, std::int64_t at) {
  Real value;
  read_as<Real>(tensor, at, 1, &value);
  return value;
}
template float read_element(const TensorView&, std::int64_t);
template double read_element(const TensorView&, std::int64_t);

// ---- Labels ----

// What a label is, as a byte: bit 0 positive, bit 1 negative, bit 2 ignored; none of them: invalid.
enum LabelCode : std::uint8_t { kIsPositive = 1, kIsNegative = 2, kIsIgnored = 4 };

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

void read_positives(const Labels& labels, const LabelRule& rule, std::int64_t first, int count,
                    std::uint64_t* positive) {
  LabelBlock block;
  read_label_block(labels, rule, first, count, block);
  for (int w = 0; w < words_for(count); ++w) {
    positive[w] = block.floats != nullptr ? bits_equal(block.floats + w * kWord, 1)
                                          : bits_from_bytes(block.codes + w * kWord, kIsPositive);
  }
}

void read_mask(const TensorView& mask, std::int64_t first, std::int64_t count, std::uint8_t* to) {
  const std::uint8_t* from = static_cast<const std::uint8_t*>(mask.data);
  for_each_run(mask, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) to[i] = from[offset + i * stride] != 0;
    to += length;
  });
}

template <bool kChecked>
std::int64_t read_labels(const Labels& labels, const LabelRule& rule, std::int64_t first, int count, LabelBits& bits,
                         const std::uint64_t* among) {
  LabelBlock block;
  read_label_block(labels, rule, first, count, block);
  alignas(64) std::uint8_t mask[kBlock];
  const bool masked = labels.mask.data != nullptr;
  if (masked) read_mask(labels.mask, first, count, mask);
  const IgnoreIndex<float> ignore = ignore_index_as<float>(labels);
  std::int64_t invalid = 0;
  for (int w = 0; w < words_for(count); ++w) {
    std::uint64_t positive, ignored = 0;
    [[maybe_unused]] std::uint64_t negative;
    if (block.floats != nullptr) {
      const float* floats = block.floats + w * kWord;
      positive = bits_equal(floats, 1);
      if constexpr (kChecked) negative = bits_equal(floats, 0);
      if (ignore.possible) ignored = bits_equal(floats, ignore.value);
    } else {
      const std::uint8_t* codes = block.codes + w * kWord;
      positive = bits_from_bytes(codes, kIsPositive);
      if constexpr (kChecked) negative = bits_from_bytes(codes, kIsNegative);
      ignored = bits_from_bytes(codes, kIsIgnored);
    }
    std::uint64_t counts = ~ignored & bits_within(count, w);
    if (masked) counts &= bits_from_bytes(mask + w * kWord, 1);
    if (among != nullptr) counts &= among[w];
    if constexpr (kChecked) invalid += __builtin_popcountll(counts & ~(positive | negative));
    bits.positive[w] = positive;
    bits.counts[w] = counts;
  }
  return invalid;
}
template std::int64_t read_labels<true>(const Labels&, const LabelRule&, std::int64_t, int, LabelBits&,
                                        const std::uint64_t*);
template std::int64_t read_labels<false>(const Labels&, const LabelRule&, std::int64_t, int, LabelBits&,
                                         const std::uint64_t*);

// What soft labels are before they are rounded to fewer digits, in which the loss is computed: ignored, outside 0 ... 1.
enum SoftLabelCode : std::uint8_t { kIsLeftOut = 1, kIsOutside = 2 };

inline void read_soft_label_codes(const Labels& labels, std::int64_t first, int count, std::uint8_t* codes) {
  const double* from = static_cast<const double*>(labels.target.data);
  const IgnoreIndex<double> ignore = ignore_index_as<double>(labels);
  for_each_run(labels.target, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) {
      const double label = from[offset + i * stride];
      const bool inside = (label >= 0) & (label <= 1), left_out = ignore.possible & (label == ignore.value);
      codes[i] = static_cast<std::uint8_t>((left_out ? kIsLeftOut : 0) | (inside ? 0 : kIsOutside));
    }
    codes += length;
  });
}

template <bool kChecked, class Real>
std::int64_t read_soft_labels(const Labels& labels, std::int64_t first, int count, Real* to, LabelBits& bits,
                              const std::uint64_t* among) {
  const Real* values = read_block(labels.target, first, count, to);
  alignas(64) std::uint8_t mask[kBlock];
  const bool masked = labels.mask.data != nullptr;
  if (masked) read_mask(labels.mask, first, count, mask);
  alignas(64) std::uint8_t codes[kBlock];
  const bool rounded = sizeof(Real) < sizeof(double) && labels.target.dtype == DType::kFloat64;
  if (rounded) read_soft_label_codes(labels, first, count, codes);
  const IgnoreIndex<Real> ignore = ignore_index_as<Real>(labels);
  std::int64_t invalid = 0;
  for (int w = 0; w < words_for(count); ++w) {
    std::uint64_t ignored = 0;
    [[maybe_unused]] std::uint64_t outside = 0;
    for (int i = 0; i < kWord; i += kLanes<Real>) {
      const Lanes<Real> label = load(values + w * kWord + i);
      if (ignore.possible) ignored |= bits_from_mask(label == Lanes<Real>(ignore.value)) << i;
      if constexpr (kChecked) {
        const Mask<Real> below = label < Lanes<Real>(Real(0)), above = Lanes<Real>(Real(1)) < label;
        const Mask<Real> not_a_number = !(label == label);
        outside |= bits_from_mask(below | above | not_a_number) << i;
      }
      store(to + w * kWord + i, label);
    }
    if (rounded) {
      ignored = bits_from_bytes(codes + w * kWord, kIsLeftOut);
      if constexpr (kChecked) outside = bits_from_bytes(codes + w * kWord, kIsOutside);
    }
    std::uint64_t counts = ~ignored & bits_within(count, w);
    if (masked) counts &= bits_from_bytes(mask + w * kWord, 1);
    if (among != nullptr) counts &= among[w];
    if constexpr (kChecked) invalid += __builtin_popcountll(counts & outside);
    bits.positive[w] = 0;
    bits.counts[w] = counts;
  }
  return invalid;
}
template std::int64_t read_soft_labels<true>(const Labels&, std::int64_t, int, float*, LabelBits&,
                                             const std::uint64_t*);
template std::int64_t read_soft_labels<true>(const Labels&, std::int64_t, int, double*, LabelBits&,
                                             const std::uint64_t*);
template std::int64_t read_soft_labels<false>(const Labels&, std::int64_t, int, float*, LabelBits&,
                                              const std::uint64_t*);
template std::int64_t read_soft_labels<false>(const Labels&, std::int64_t, int, double*, LabelBits&,
                                              const std::uint64_t*);

}  // namespace rarepixel::RAREPIXEL_ISA
