// rng.h's numbers for a run of pixels, many counters at once.
#pragma once

#include "../rng.h"
#include "simd.h"

namespace rarepixel::RAREPIXEL_ISA {

inline constexpr int kCounters = kVectorBytes / 8;  // counters worked on together
inline constexpr int kPixelsATurn = 4 * kCounters;  // pixels they serve

// Lane 2j holds counter j and lane 2j + 1 counter j + kCounters / 2: unpacking then leaves the words in pixel order.
RAREPIXEL_INLINE Words counter_lanes(std::uint64_t first) {
  Words::Vector lanes;
#pragma GCC unroll 8
  for (int lane = 0; lane < kCounters; ++lane) lanes[lane] = first + lane / 2 + (lane & 1) * (kCounters / 2);
  return lanes;
}

RAREPIXEL_INLINE void store_uniform(float* to, Words::Vector words) {
  using Integers = Native<std::int32_t>::type;
  const Integers high_bits = (Integers)((Native<std::uint32_t>::type)words >> 8);
  store(to, Lanes<float>(__builtin_convertvector(high_bits, Lanes<float>::Vector)) * Lanes<float>(kUniformStep));
}

// The numbers of kPixelsATurn pixels from pixel 4 * counter on.
RAREPIXEL_INLINE void uniform_turn(const RoundKeys& keys, Words counters, float* to) {
  constexpr std::uint64_t kLow = 0xffffffffu;
  Words words[4];
  philox4x32_10(counters, keys, words);
  Words::Vector first, second;
  interleave((words[0].v & kLow) | (words[1].v << 32), (words[2].v & kLow) | (words[3].v << 32), first, second);
  store_uniform(to, first);
  store_uniform(to + kPixelsATurn / 2, second);
}

// Fills to[0 .. count) with the numbers of pixels first_pixel on. `to` has room for kUniformSlack more: whole turns are
// written, and a first pixel inside a counter is reached by returning a pointer into the buffer.
inline constexpr int kUniformSlack = 2 * kPixelsATurn + 4;

RAREPIXEL_INLINE const float* fill_uniform(std::uint64_t seed, std::int64_t first_pixel, int count, float* to) {
  const RoundKeys keys = round_keys(seed);
  const int inside = static_cast<int>(first_pixel & 3);
  Words counters = counter_lanes(static_cast<std::uint64_t>(first_pixel) >> 2);
  int done = 0;
  for (; done + kPixelsATurn < inside + count; done += 2 * kPixelsATurn) {
    // Two turns together: their chains of multiplications overlap.
    uniform_turn(keys, counters, to + done);
    uniform_turn(keys, counters + Words(kCounters), to + done + kPixelsATurn);
    counters = counters + Words(2 * kCounters);
  }
  if (done < inside + count) uniform_turn(keys, counters, to + done);
  return to + inside;
}

}  // namespace rarepixel::RAREPIXEL_ISA
