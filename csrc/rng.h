// Uniform random numbers by pixel: Philox4x32-10.
// (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
//
// Pixel i of a tensor in contiguous order takes word i mod 4 of counter floor(i / 4), under the 64-bit seed as the key:
//     u = floor(word / 2^8) / 2^24, in [0, 1)
// so the number of a pixel depends on the seed and on i alone, never on threads, blocks or memory layout.
#pragma once

#include <cstdint>

#include "compiler.h"

namespace rarepixel {

inline constexpr float kUniformStep = 0x1p-24f;

// The product of the low 32 bits of two numbers, and a number's high 32 bits moved to the low ones; cpu/simd.h has the
// same for lanes.
RAREPIXEL_INLINE std::uint64_t multiply_low_halves(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) * static_cast<std::uint32_t>(b);
}

RAREPIXEL_INLINE std::uint64_t high_half(std::uint64_t a) { return a >> 32; }

// The keys of the ten rounds, from the seed.
struct RoundKeys {
  std::uint64_t first[10], second[10];
};

RAREPIXEL_INLINE RoundKeys round_keys(std::uint64_t seed) {
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  RoundKeys keys;
  for (std::uint32_t round = 0; round < 10; ++round) {
    keys.first[round] = static_cast<std::uint32_t>(seed) + round * kWeyl0;
    keys.second[round] = static_cast<std::uint32_t>(seed >> 32) + round * kWeyl1;
  }
  return keys;
}

// The four words of `counter`, in the low halves of words[]; what is in the high halves is rubbish. U is uint64_t or
// lanes of it: with one number in 64 bits the multiplier's double-width product needs no packing between rounds.
template <class U>
RAREPIXEL_INLINE void philox4x32_10(U counter, const RoundKeys& keys, U (&words)[4]) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  U c0 = counter, c1 = high_half(counter), c2(0), c3(0);
  RAREPIXEL_UNROLL
  for (int round = 0; round < 10; ++round) {
    const U product0 = multiply_low_halves(c0, U(kMultiplier0));
    const U product1 = multiply_low_halves(c2, U(kMultiplier1));
    c0 = high_half(product1) ^ c1 ^ U(keys.first[round]);
    c2 = high_half(product0) ^ c3 ^ U(keys.second[round]);
    c1 = product1;
    c3 = product0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

RAREPIXEL_INLINE float uniform_from(std::uint64_t word) {
  return static_cast<float>(static_cast<std::uint32_t>(word) >> 8) * kUniformStep;
}

// The number of one pixel.
RAREPIXEL_INLINE float uniform_at(std::uint64_t seed, std::int64_t pixel) {
  std::uint64_t words[4];
  philox4x32_10(static_cast<std::uint64_t>(pixel) >> 2, round_keys(seed), words);
  // Chosen, not indexed: an array indexed at run time would leave a GPU's registers.
  const std::uint64_t low = (pixel & 1) != 0 ? words[1] : words[0];
  const std::uint64_t high = (pixel & 1) != 0 ? words[3] : words[2];
  return uniform_from((pixel & 2) != 0 ? high : low);
}

}  // namespace rarepixel
