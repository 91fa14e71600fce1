// rng.h against the known answers of the Random123 distribution and against a plain Philox (reference.h).
#include "rng.h"

#include <cmath>
#include <vector>

#include "check.h"
#include "reference.h"

namespace rarepixel::test {
namespace {

constexpr std::uint64_t kSeeds[] = {
    0, 1, 42, 0xffffffffull, 0x100000000ull, 0x299f31d0a4093822ull, 0x8000000000000000ull, 0xffffffffffffffffull};

std::array<std::uint32_t, 4> ours(std::uint64_t counter, std::uint64_t seed) {
  std::uint64_t words[4];
  philox4x32_10(counter, round_keys(seed), words);
  std::array<std::uint32_t, 4> low;
  for (int i = 0; i < 4; ++i) low[i] = static_cast<std::uint32_t>(words[i]);
  return low;
}

// kat_vectors of Random123. Ours fixes the counter's upper half at 0; the plain version takes them all.
void test_known_answers() {
  struct Known {
    std::array<std::uint32_t, 4> counter;
    std::array<std::uint32_t, 2> key;
    std::array<std::uint32_t, 4> words;
  };
  constexpr std::uint32_t kOnes = 0xffffffffu;
  constexpr Known kKnown[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Known& known : kKnown) {
    const auto words = philox(known.counter, known.key);
    for (int i = 0; i < 4; ++i) check(words[i] == known.words[i], "plain philox, known answer", i, words[i]);
  }
  const auto words = ours(0, 0);
  for (int i = 0; i < 4; ++i) check(words[i] == kKnown[0].words[i], "philox4x32_10, known answer", i, words[i]);
}

void test_against_plain_version() {
  std::vector<std::uint64_t> counters = {0, 1, 2, 0xfffffffeull, 0xffffffffull, 0x100000000ull, 0x100000001ull, ~0ull};
  Sequence sequence(1);
  for (int i = 0; i < 500; ++i) counters.push_back(sequence.next() >> sequence.below(64));
  for (const std::uint64_t seed : kSeeds) {
    for (const std::uint64_t counter : counters) {
      const auto got = ours(counter, seed), expected = philox(counter, seed);
      for (int i = 0; i < 4; ++i) {
        check(got[i] == expected[i], "philox4x32_10: seed, counter, word, got, expected", seed, counter, i, got[i],
              expected[i]);
      }
    }
  }
}

// Which word of which counter a pixel takes, also where counters pass 2^32 and pixels the int32 range.
void test_uniform_at() {
  constexpr std::int64_t kStarts[] = {0, (1ll << 31) - 8, (1ll << 32) - 8, (1ll << 34) - 8, (1ll << 60) - 8};
  for (const std::uint64_t seed : kSeeds) {
    for (const std::int64_t start : kStarts) {
      for (std::int64_t pixel = start; pixel < start + 17; ++pixel) {
        const double got = uniform_at(seed, pixel), expected = uniform(seed, static_cast<std::uint64_t>(pixel));
        check(got == expected, "uniform_at: seed, pixel, got, expected", seed, pixel, got, expected);
      }
    }
  }
}

// In [0, 1), in steps of 2^-24, every step of the lowest byte taken, both ends come near.
void test_range() {
  float least = 1, most = 0;
  std::uint32_t low_bits = 0;
  for (std::int64_t pixel = 0; pixel < 1 << 20; ++pixel) {
    const float u = uniform_at(7, pixel);
    const float steps = u * 0x1p24f;
    check(u >= 0 && u < 1 && steps == std::floor(steps), "uniform_at: range and step", pixel, u);
    low_bits |= 1u << (static_cast<std::uint32_t>(steps) & 31);
    least = std::fmin(least, u);
    most = std::fmax(most, u);
  }
  check(low_bits == 0xffffffffu, "the lowest bits vary", low_bits);
  check(least < 1e-5f && most > 1 - 1e-5f, "both ends are reached", least, most);
}

// Mean, variance, correlation of neighbours and a chi-square over 256 bins; bounds at about five standard deviations.
void test_distribution() {
  constexpr int kCount = 1 << 20, kBins = 256;
  for (const std::uint64_t seed : {0ull, 1ull, 123456789ull, 1ull << 32}) {
    std::vector<int> bins(kBins);
    double sum = 0, squares = 0, products = 0, last = 0.5;
    for (int pixel = 0; pixel < kCount; ++pixel) {
      const double u = uniform_at(seed, pixel);
      sum += u;
      squares += (u - 0.5) * (u - 0.5);
      products += (u - 0.5) * (last - 0.5);
      last = u;
      ++bins[static_cast<int>(u * kBins)];
    }
    double chi_square = 0;
    for (const int count : bins) {
      const double expected = static_cast<double>(kCount) / kBins;
      chi_square += (count - expected) * (count - expected) / expected;
    }
    const double root = std::sqrt(static_cast<double>(kCount));
    check(std::fabs(sum / kCount - 0.5) < 5 * std::sqrt(1.0 / 12) / root, "mean", seed, sum / kCount);
    check(std::fabs(squares / kCount - 1.0 / 12) < 5 * std::sqrt(1.0 / 180) / root, "variance", seed, squares / kCount);
    check(std::fabs(products / kCount) < 5.0 / 12 / root, "correlation of neighbours", seed, products / kCount);
    check(std::fabs(chi_square - (kBins - 1)) < 5 * std::sqrt(2.0 * (kBins - 1)), "chi-square", seed, chi_square);
  }
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  test_known_answers();
  test_against_plain_version();
  test_uniform_at();
  test_range();
  test_distribution();
  return check.result();
}
