// Exact selection of a region's K largest negatives, without sorting: what the engines' searches have in common.
//
// A logit becomes an integer key of the same order. Every pass counts the keys of one interval by their leading digits,
// which narrows the interval to one digit, until a single key is left: the threshold. Counts are integers, so nothing
// depends on the order of pixels, the number of threads or the layout.
#pragma once

#include <cstdint>
#include <cstring>

#include "compiler.h"

namespace rarepixel {

// What is found for a region; the columns stand in the table of regions (RegionTable::kFound).
struct Threshold {
  enum Column { kKept, kAbove, kTies, kLogit, kNumColumns };
  double kept = 0;   // K, at most the number of negatives
  double above = 0;  // negatives above the threshold, all kept
  double ties = 0;   // negatives at the threshold, which share the other kept - above places
  double logit = 0;  // the threshold, the K-th largest logit; NaN if that is a NaN, infinite if nothing is kept

  RAREPIXEL_INLINE void store(double* columns) const {
    columns[kKept] = kept;
    columns[kAbove] = above;
    columns[kTies] = ties;
    columns[kLogit] = logit;
  }
};

template <class Real>
struct KeyOf;
template <>
struct KeyOf<float> {
  using type = std::uint32_t;
};
template <>
struct KeyOf<double> {
  using type = std::uint64_t;
};
template <class Real>
using Key = typename KeyOf<Real>::type;

template <class Real>
inline constexpr int kKeyBits = 8 * sizeof(Real);

template <class Real>
inline constexpr Key<Real> kHighestKey = ~Key<Real>(0);  // of every NaN, whatever its sign

// Keys sort as logits do; -0 and +0 have the same one.
template <class Real>
RAREPIXEL_INLINE Key<Real> key_of(Real x) {
  constexpr Key<Real> kSign = Key<Real>(1) << (kKeyBits<Real> - 1);
  if (x != x) return kHighestKey<Real>;
  const Real without_negative_zero = x + Real(0);
  Key<Real> bits;
  memcpy(&bits, &without_negative_zero, sizeof bits);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

template <class Real>
RAREPIXEL_INLINE Real real_of(Key<Real> key) {
  constexpr Key<Real> kSign = Key<Real>(1) << (kKeyBits<Real> - 1);
  const Key<Real> bits = (key & kSign) != 0 ? key & ~kSign : ~key;
  Real x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// K from what the user asks for, a number of negatives or a share: rounded half up, at least 1 if there are any.
RAREPIXEL_INLINE std::int64_t number_to_keep(double k, bool is_share, std::int64_t negatives) {
  const double wanted = __builtin_floor((is_share ? k * static_cast<double>(negatives) : k) + 0.5);
  if (!(wanted > 1)) return negatives > 0 ? 1 : 0;
  return wanted < static_cast<double>(negatives) ? static_cast<std::int64_t>(wanted) : negatives;
}

}  // namespace rarepixel
