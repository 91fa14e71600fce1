// Elements of tensors as numbers: functions that know types and strides, for the files that read or write them.
#pragma once

#include "blocks.h"

namespace rarepixel::RAREPIXEL_ISA {

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

// ---- Labels ----

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
    return {labels.has_ignore_index && is_exactly(to_float(half), labels.ignore_index), half};
  } else if constexpr (static_cast<T>(0.5) != T(0)) {
    const T value = static_cast<T>(labels.ignore_index);
    return {labels.has_ignore_index && is_exactly(value, labels.ignore_index), value};
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

}  // namespace rarepixel::RAREPIXEL_ISA
