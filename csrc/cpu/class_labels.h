// The true class of each pixel of a block in plain form, for class_engine.h: functions that know types, strides and
// labels, but no loss.
#pragma once

#include "elements.h"

namespace rarepixel::RAREPIXEL_ISA {

template <class T, class Real>
void read_indices_as(const Labels& labels, int classes, std::int64_t first, std::int64_t count, Real* to) {
  const T* from = static_cast<const T*>(labels.target.data);
  const IgnoreIndex<T> ignore = ignore_index_as<T>(labels);
  const auto ignored = label_value(ignore.value);
  const bool ignores = ignore.possible;
  using Value = decltype(label_value(T{}));
  // Classes fit into every type but the 8-bit ones, whose values may all be classes.
  const Value largest = sizeof(T) == 1 && classes - 1 > TypedRule<Value>::kHighest ? TypedRule<Value>::kHighest
                                                                                   : static_cast<Value>(classes - 1);
  for_each_run(labels.target, first, count, [&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
    for (std::int64_t i = 0; i < length; ++i) {
      const Value label = label_value(from[offset + i * stride]);
      bool is_class = (label >= Value(0)) & (label <= largest);
      // Through 32 bits, whatever the type: that vectorises.
      std::int32_t index = static_cast<std::int32_t>(is_class ? label : Value(0));
      if constexpr (!TypedRule<Value>::kIsWhole) is_class &= static_cast<Value>(index) == label;
      index = is_class ? index : kInvalidClass;
      to[i] = static_cast<Real>(ignores & (label == ignored) ? kNoClass : index);
    }
    to += length;
  });
}

template <class Real>
void read_indices(const Labels& labels, int classes, std::int64_t first, std::int64_t count, Real* to) {
  switch (labels.target.dtype) {
    case DType::kByte: return read_indices_as<std::uint8_t>(labels, classes, first, count, to);
    case DType::kInt8: return read_indices_as<std::int8_t>(labels, classes, first, count, to);
    case DType::kInt16: return read_indices_as<std::int16_t>(labels, classes, first, count, to);
    case DType::kInt32: return read_indices_as<std::int32_t>(labels, classes, first, count, to);
    case DType::kInt64: return read_indices_as<std::int64_t>(labels, classes, first, count, to);
    case DType::kFloat16: return read_indices_as<Float16>(labels, classes, first, count, to);
    case DType::kBFloat16: return read_indices_as<BFloat16>(labels, classes, first, count, to);
    case DType::kFloat32: return read_indices_as<float>(labels, classes, first, count, to);
    case DType::kFloat64: return read_indices_as<double>(labels, classes, first, count, to);
  }
}

// From an index map [N, 1, *]: the class of each pixel, kNoClass where it does not count and beyond count; returns how
// many that count are invalid.
template <class Real>
std::int64_t read_index_map(const Labels& labels, int classes, std::int64_t image_start, std::int64_t first, int count,
                            Real* to) {
  read_indices(labels, classes, image_start + first, count, to);
  if (labels.mask.data != nullptr) {
    alignas(64) std::uint8_t mask[kBlock];
    read_mask(labels.mask, image_start + first, count, mask);
    for (int i = 0; i < count; ++i) to[i] = mask[i] ? to[i] : Real(kNoClass);
  }
  std::int64_t invalid = 0;
  for (int i = 0; i < count; ++i) invalid += to[i] == Real(kInvalidClass);
  for (int i = count; i < words_for(count) * kWord; ++i) to[i] = Real(kNoClass);
  return invalid;
}

// The classes of a block of one-hot labels [N, C, *], as read_index_map leaves them: exactly one label of a pixel is 1.
template <class Real>
std::int64_t read_one_hot(const Labels& labels, int classes, std::int64_t pixels, std::int64_t image_start,
                          std::int64_t first, int count, Real* to) {
  LabelBits bits;
  std::uint64_t any[kBlockWords] = {}, several[kBlockWords] = {}, counts[kBlockWords];
  std::int64_t invalid = 0;
  for (int w = 0; w < words_for(count); ++w) counts[w] = ~std::uint64_t(0);
  for (int i = 0; i < words_for(count) * kWord; ++i) to[i] = Real(kNoClass);
  for (int k = 0; k < classes; ++k) {
    invalid += read_labels<true>(labels, {}, image_start * classes + k * pixels + first, count, bits);
    for (int w = 0; w < words_for(count); ++w) {
      several[w] |= any[w] & bits.positive[w];
      any[w] |= bits.positive[w];
      counts[w] &= bits.counts[w];
      if (bits.positive[w] == 0) continue;
      for (int i = 0; i < kWord; i += kLanes<Real>) {
        const Mask<Real> is_this = mask_from_bits<Real>(bits.positive[w] >> i);
        store(to + w * kWord + i, select(is_this, Lanes<Real>(static_cast<Real>(k)), load(to + w * kWord + i)));
      }
    }
  }
  for (int w = 0; w < words_for(count); ++w) {
    invalid += __builtin_popcountll(counts[w] & (~any[w] | several[w]));
    for (int i = 0; i < kWord; i += kLanes<Real>) {
      const Mask<Real> is_class = mask_from_bits<Real>((counts[w] & any[w] & ~several[w]) >> i);
      store(to + w * kWord + i, select(is_class, load(to + w * kWord + i), Lanes<Real>(Real(kNoClass))));
    }
  }
  return invalid;
}

// Soft labels [N, C, *], row k from labels + k * stride on; `to` is 0 where a pixel counts, kNoClass elsewhere. Invalid
// are labels outside 0 ... 1 and pixels whose labels do not sum to 1 within a hundredth, as half types leave them.
template <class Real>
std::int64_t read_soft_classes(const Labels& labels, int classes, std::int64_t pixels, std::int64_t image_start,
                               std::int64_t first, int count, int stride, Real* rows, Real* to) {
  LabelBits bits;
  std::uint64_t counts[kBlockWords];
  std::int64_t invalid = 0;
  for (int w = 0; w < words_for(count); ++w) counts[w] = ~std::uint64_t(0);
  for (int i = 0; i < words_for(count) * kWord; ++i) to[i] = Real(0);
  for (int k = 0; k < classes; ++k, rows += stride) {
    invalid += read_soft_labels<true>(labels, image_start * classes + k * pixels + first, count, rows, bits);
    for (int w = 0; w < words_for(count); ++w) counts[w] &= bits.counts[w];
    for (int i = 0; i < words_for(count) * kWord; ++i) to[i] += rows[i];
  }
  for (int w = 0; w < words_for(count); ++w) {
    std::uint64_t whole = 0;
    for (int i = 0; i < kWord; i += kLanes<Real>) {
      const Lanes<Real> off = absolute(load(to + w * kWord + i) - Lanes<Real>(Real(1)));
      whole |= bits_from_mask(off < Lanes<Real>(Real(kSoftLabelTolerance))) << i;
      store(to + w * kWord + i,
            select(mask_from_bits<Real>(counts[w] >> i), Lanes<Real>(Real(0)), Lanes<Real>(Real(kNoClass))));
    }
    invalid += __builtin_popcountll(counts[w] & ~whole);
  }
  return invalid;
}

}  // namespace rarepixel::RAREPIXEL_ISA
