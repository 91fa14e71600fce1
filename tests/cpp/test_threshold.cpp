// Threshold: keys, the number to keep, and one pass of every instruction set against counting one by one.
#include "threshold.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "instruction_sets.h"
#include "tensor.h"

namespace rarepixel::test {
namespace {

// ---- Keys ----

template <class Real>
void test_keys() {
  constexpr Real kInfinity = std::numeric_limits<Real>::infinity(), kSmallest = std::numeric_limits<Real>::denorm_min();
  const std::vector<Real> ascending = {-kInfinity,
                                       -std::numeric_limits<Real>::max(),
                                       Real(-1e4),
                                       Real(-1),
                                       -kSmallest,
                                       Real(0),
                                       kSmallest,
                                       std::numeric_limits<Real>::min(),
                                       Real(1),
                                       Real(1e4),
                                       std::numeric_limits<Real>::max(),
                                       kInfinity};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    check(real_of<Real>(key_of(ascending[i])) == ascending[i], "a key leads back to its logit", ascending[i]);
    if (i > 0) check(key_of(ascending[i - 1]) < key_of(ascending[i]), "keys ascend", ascending[i - 1], ascending[i]);
  }
  check(key_of(Real(-0.0)) == key_of(Real(0)), "both zeros are alike");
  const Real nan = std::numeric_limits<Real>::quiet_NaN();
  check(key_of(nan) == key_of(-nan) && key_of(nan) > key_of(kInfinity), "every NaN is above infinity");
  check(std::isnan(real_of<Real>(key_of(nan))), "the highest key is a NaN");
  Sequence sequence(3);
  for (int i = 0; i < 100000; ++i) {
    const Real a = static_cast<Real>(sequence.of_any_size(60)), b = static_cast<Real>(sequence.of_any_size(60));
    check((a < b) == (key_of(a) < key_of(b)), "keys compare as logits do", a, b);
  }
}

void test_number_to_keep() {
  check(number_to_keep(5, false, 10) == 5, "a number");
  check(number_to_keep(5, false, 3) == 3, "at most all");
  check(number_to_keep(0.2, false, 10) == 1 && number_to_keep(0, true, 10) == 1, "at least one");
  check(number_to_keep(5, false, 0) == 0 && number_to_keep(1, true, 0) == 0, "none of none");
  check(number_to_keep(0.25, true, 10) == 3 && number_to_keep(0.24, true, 10) == 2, "a share, rounded half up");
  check(number_to_keep(1, true, 1'000'003) == 1'000'003, "all");
  check(number_to_keep(1e300, false, std::int64_t(1) << 40) == std::int64_t(1) << 40, "more than can be counted");
}

// ---- One pass ----

struct Field {
  TestTensor logits, target;
  RegionProblem problem;
};

// Logits with many equal ones, some NaN and infinite; a tenth positive, some ignored.
Field make_field(std::int64_t regions, std::int64_t pixels, DType type, Layout layout, std::uint64_t seed) {
  const Shape shape{{1, 1, 1, regions, pixels}};
  Field field{TestTensor(shape, layout, type), TestTensor(shape, Layout::kContiguous, DType::kByte), {}};
  Sequence sequence(seed);
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    double logit = static_cast<double>(sequence.below(64)) / 8 - 4;
    if (sequence.below(3) == 0) logit = 12 * sequence.unit() - 6;
    if (sequence.below(200) == 0) logit = std::numeric_limits<double>::quiet_NaN();
    if (sequence.below(200) == 0) logit = sequence.next() & 1 ? HUGE_VAL : -HUGE_VAL;
    field.logits.set(i, logit);
    field.target.set(i, sequence.below(10) == 0 ? 1 : sequence.below(20) == 0 ? 7 : 0);
  }
  Regions& plan = field.problem.regions;
  plan.count = regions;
  plan.pixels = pixels;
  plan.chunk_pixels = 2 * kBlock;
  plan.chunks = (pixels + plan.chunk_pixels - 1) / plan.chunk_pixels;
  field.problem.logits = field.logits.view();
  field.problem.labels.target = field.target.view();
  field.problem.labels.has_ignore_index = true;
  field.problem.labels.ignore_index = 7;
  return field;
}

template <class Real>
ThresholdCounts naive_counts(const Field& field, const ThresholdInterval& interval, std::int64_t region) {
  ThresholdCounts counts;
  const std::int64_t pixels = field.problem.regions.pixels;
  for (std::int64_t i = region * pixels; i < (region + 1) * pixels; ++i) {
    if (field.target.get(i) != 0) continue;
    const double x = field.logits.get(i);
    ++counts.negatives;
    if (x == interval.high) ++counts.at_high;
    else if (!(x < interval.high)) ++counts.above;
    else if (x == interval.low) ++counts.at_low;
    else if (x > interval.low) {
      const Key<Real> distance = key_of(static_cast<Real>(x)) - key_of(static_cast<Real>(interval.low));
      if (interval.collect) counts.keys[counts.inside] = key_of(static_cast<Real>(x));
      else ++counts.bins[distance >> interval.shift];
      ++counts.inside;
    }
  }
  return counts;
}

template <class Real>
void test_one_pass(DType type, Layout layout, std::int64_t pixels, std::uint64_t seed) {
  Field field = make_field(3, pixels, type, layout, seed);
  Sequence sequence(seed + 1);
  const std::int64_t chunks = field.problem.regions.chunks;
  for (int round = 0; round < 12; ++round) {
    ThresholdInterval interval;
    interval.low = static_cast<double>(sequence.below(64)) / 8 - 4;
    interval.high = interval.low + static_cast<double>(sequence.below(8)) / 8;  // often the same
    if (round == 0) interval.low = -HUGE_VAL, interval.high = HUGE_VAL;
    const auto width = key_of(static_cast<Real>(interval.high)) - key_of(static_cast<Real>(interval.low));
    while (width >> interval.shift >= ThresholdCounts::kBins) ++interval.shift;
    const std::int64_t region = static_cast<std::int64_t>(sequence.below(3));
    ThresholdCounts expected = naive_counts<Real>(field, interval, region);
    interval.collect = expected.inside <= ThresholdCounts::kBins && sequence.below(2) == 0;
    expected = naive_counts<Real>(field, interval, region);
    for (const auto& runner : of_every_instruction_set<ThresholdKernels<Real>>()) {
      ThresholdCounts counts;
      runner.kernels.count(field.problem, interval, region * chunks, (region + 1) * chunks, counts);
      check(counts.negatives == expected.negatives, "negatives", runner.isa, counts.negatives, expected.negatives);
      check(counts.above == expected.above, "above", runner.isa, counts.above, expected.above);
      check(counts.at_high == expected.at_high, "at the upper end", runner.isa, counts.at_high, expected.at_high);
      check(counts.at_low == expected.at_low, "at the lower end", runner.isa, counts.at_low, expected.at_low);
      check(counts.inside == expected.inside, "inside", runner.isa, counts.inside, expected.inside);
      check(std::equal(counts.bins, counts.bins + ThresholdCounts::kBins, expected.bins), "bins", runner.isa);
      if (interval.collect && counts.inside == expected.inside) {
        check(std::equal(counts.keys, counts.keys + counts.inside, expected.keys), "collected keys", runner.isa);
      }
    }
  }
}

// ---- The sample ----

template <class Real>
void test_sample(DType type) {
  Field field = make_field(2, 5 * kSampleSize + 17, type, Layout::kContiguous, 5);
  std::vector<double> sample(kSampleSize);
  for (const auto& runner : of_every_instruction_set<ThresholdKernels<Real>>()) {
    const int size = runner.kernels.sample(field.problem, 1, sample.data());
    // 0.9 * 0.95 of the pixels are negatives.
    check(size > 0.8 * kSampleSize && size < 0.91 * kSampleSize, "size of the sample", runner.isa, size);
    double below_zero = 0;
    for (int i = 0; i < size; ++i) below_zero += sample[static_cast<std::size_t>(i)] < 0;
    check(std::fabs(below_zero / size - 0.5) < 0.05, "the sample is like the region", runner.isa, below_zero / size);
  }
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel;
  using namespace rarepixel::test;
  test_keys<float>();
  test_keys<double>();
  test_number_to_keep();
  for (const std::int64_t pixels : {1, 63, 64, 1000, 3 * kBlock + 5}) {
    for (const Layout layout : {Layout::kContiguous, Layout::kShifted, Layout::kEverySecond}) {
      const auto seed = static_cast<std::uint64_t>(pixels);
      test_one_pass<float>(DType::kFloat32, layout, pixels, seed);
      test_one_pass<float>(DType::kFloat16, layout, pixels, seed + 10);
      test_one_pass<float>(DType::kBFloat16, layout, pixels, seed + 20);
      test_one_pass<double>(DType::kFloat64, layout, pixels, seed + 30);
    }
  }
  test_sample<float>(DType::kFloat32);
  test_sample<float>(DType::kBFloat16);
  test_sample<double>(DType::kFloat64);
  return check.result();
}
