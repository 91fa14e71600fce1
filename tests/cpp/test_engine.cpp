// The CPU engine (reduce, settle, map) on raw pointers, in every instruction set that this processor has, against
// naive_random_drop.h. Kept bits must moreover be the same in all of them, to the last.
#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "instruction_sets.h"
#include "naive_random_drop.h"
#include "tensor.h"

namespace rarepixel::test {
namespace {

constexpr DType kLogitTypes[] = {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16};
constexpr DType kTargetTypes[] = {DType::kByte,    DType::kInt8,     DType::kInt16,   DType::kInt32,  DType::kInt64,
                                  DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64};
constexpr Layout kLayouts[] = {Layout::kContiguous, Layout::kContiguous,   Layout::kShifted, Layout::kEverySecond,
                               Layout::kPaddedRows, Layout::kChannelsLast, Layout::kReversed};
constexpr Layout kMaskLayouts[] = {Layout::kContiguous,        Layout::kPaddedRows,      Layout::kChannelsLast,
                                   Layout::kBroadcastChannels, Layout::kBroadcastImages, Layout::kShifted};

struct Case {
  Shape shape{{1, 1, 1, 1, 1}};
  Balance balance = Balance::kChannel;
  std::int64_t chunk_pixels = 16 * kBlock;
  DType logits = DType::kFloat32, target = DType::kByte, uniform = DType::kFloat32;
  Layout logits_layout = Layout::kContiguous, target_layout = Layout::kContiguous, mask_layout = Layout::kContiguous;
  Layout uniform_layout = Layout::kContiguous;
  bool masked = false;
  std::optional<std::int64_t> ignore_index;
  double invalid_share = 0;
  bool uniform_given = false;
  std::uint64_t seed = 1;
  Reduction reduction = Reduction::kMean;
  bool upstream_per_region = false;

  std::int64_t regions() const {
    switch (balance) {
      case Balance::kChannel: return shape.size[0] * shape.size[1];
      case Balance::kImage: return shape.size[0];
      default: return 1;
    }
  }
  bool in_double() const { return logits == DType::kFloat64; }
};

// ---- Inputs ----

struct Inputs {
  TestTensor logits, target, mask, uniform;
};

double some_logit(Sequence& sequence) {
  switch (sequence.below(16)) {
    case 0: return sequence.next() & 1 ? 100 : -100;
    case 1: return sequence.next() & 1 ? 1e4 : -1e4;
    case 2: return 0;
    case 3: return sequence.of_any_size(14);  // finite in half as well
    default: return 12 * sequence.unit() - 7;
  }
}

// Positives come in some words of 64 pixels only, as the engine has a path for words without any.
Inputs make_inputs(const Case& c) {
  Inputs in{TestTensor(c.shape, c.logits_layout, c.logits), TestTensor(c.shape, c.target_layout, c.target),
            TestTensor(c.shape, c.mask_layout, DType::kByte), TestTensor(c.shape, c.uniform_layout, c.uniform)};
  Sequence sequence(c.seed * 1000003 + static_cast<std::uint64_t>(c.shape.numel()));
  bool positives_here = true;
  for (std::int64_t i = 0; i < c.shape.numel(); ++i) {
    if (i % 64 == 0 && i > 0) positives_here = sequence.below(3) == 0;
    in.logits.set(i, some_logit(sequence));
    double label = positives_here && sequence.below(4) == 0 ? 1 : 0;
    if (c.ignore_index && sequence.below(5) == 0) label = static_cast<double>(*c.ignore_index);
    if (sequence.unit() < c.invalid_share) label = sequence.next() & 1 ? 3 : 127;
    in.target.set(i, label);
    in.mask.set(i, sequence.below(4) == 0 ? 0 : sequence.next() & 1 ? 1 : 255);
    in.uniform.set(i, sequence.below(50) == 0 ? 0 : sequence.unit());
  }
  return in;
}

// What the formulas say of pixel i: as the tensors hold it, so that rounded and wrapped values are seen as such.
NaivePixel naive_pixel(const Case& c, const Inputs& in, std::int64_t i) {
  const double label = in.target.get(i);
  const bool ignored = c.ignore_index && label == static_cast<double>(*c.ignore_index);
  double u = c.uniform_given ? in.uniform.get(i) : uniform(c.seed, static_cast<std::uint64_t>(i));
  if (!c.in_double()) u = static_cast<float>(u);
  return {in.logits.get(i), u, label == 1, !ignored && !(c.masked && in.mask.get(i) == 0)};
}

// ---- Running ----

template <class Loss>
struct Runner {
  const char* isa;
  Kernels<Loss> kernels;
};

template <class Loss>
std::vector<Runner<Loss>> runners() {
  std::vector<Runner<Loss>> all;
  for (const auto& [isa, kernels] : of_every_instruction_set<KernelsOf<operators::random_drop>>()) {
    all.push_back({isa, kernels});
  }
  return all;
}

Regions regions_of(const Case& c) {
  Regions regions;
  regions.count = c.regions();
  regions.pixels = c.shape.numel() / regions.count;
  regions.chunk_pixels = c.chunk_pixels;
  regions.chunks = (regions.pixels + regions.chunk_pixels - 1) / regions.chunk_pixels;
  return regions;
}

std::int64_t words_a_region(const Regions& regions) { return (regions.pixels + 63) / 64; }

struct Reduced {
  GuardedArray<std::uint64_t> kept;
  GuardedArray<double> partial_sums;

  bool is_kept(const Regions& regions, std::int64_t i) const {
    const std::int64_t pixel = i % regions.pixels;
    const std::int64_t word = i / regions.pixels * words_a_region(regions) + pixel / 64;
    return kept[static_cast<std::size_t>(word)] >> (pixel % 64) & 1;
  }
};

Labels labels_of(const Case& c, Inputs& in) {
  Labels labels;
  labels.target = in.target.view();
  if (c.masked) labels.mask = in.mask.view();
  labels.has_ignore_index = c.ignore_index.has_value();
  labels.ignore_index = c.ignore_index.value_or(0);
  return labels;
}

// All chunks in one call, or one by one and backwards, as threads might.
template <class Loss>
Reduced run_reduce(const Runner<Loss>& runner, const Case& c, Inputs& in, bool one_by_one) {
  const Regions regions = regions_of(c);
  const std::int64_t chunks = regions.count * regions.chunks;
  Reduced out{GuardedArray<std::uint64_t>(static_cast<std::size_t>(regions.count * words_a_region(regions))),
              GuardedArray<double>(static_cast<std::size_t>(chunks * (Loss::kNumSums + 1)))};
  ReduceProblem problem;
  problem.regions = regions;
  problem.logits = in.logits.view();
  problem.labels = labels_of(c, in);
  if (c.uniform_given) problem.uniform = in.uniform.view();
  problem.seed = &c.seed;
  problem.kept = out.kept.data();
  problem.partial_sums = out.partial_sums.data();
  if (!one_by_one) runner.kernels.reduce(Loss{}, problem, 0, chunks);
  for (std::int64_t chunk = chunks; one_by_one && chunk-- > 0;) {
    runner.kernels.reduce(Loss{}, problem, chunk, chunk + 1);
  }
  check(out.kept.intact(), "reduce wrote beyond the kept bits", runner.isa);
  check(out.partial_sums.intact(), "reduce wrote beyond the partial sums", runner.isa);
  return out;
}

constexpr double kUpstream = -1.75;

double upstream_of(const Case& c, std::int64_t region) {
  return c.upstream_per_region ? kUpstream + static_cast<double>(region) / 2 : kUpstream;
}

template <class Loss>
TestTensor run_map(const Runner<Loss>& runner, const Case& c, Inputs& in, Reduced& reduced,
                   const std::vector<double>& table) {
  const Regions regions = regions_of(c);
  TestTensor gradient(c.shape, c.logits_layout, c.logits);
  TestTensor upstream({{1, 1, 1, 1, c.upstream_per_region ? regions.count : 1}}, Layout::kEverySecond,
                      c.in_double() ? DType::kFloat64 : DType::kFloat32);
  for (std::int64_t r = 0; r < upstream.numel(); ++r) upstream.set(r, upstream_of(c, r));
  MapProblem problem;
  problem.regions = regions;
  problem.logits = in.logits.view();
  problem.labels.target = in.target.view();
  problem.kept = reduced.kept.data();
  problem.table = table.data();
  problem.upstream = upstream.view();
  problem.upstream_per_group = c.upstream_per_region;
  problem.gradient = gradient.view();
  runner.kernels.map(Loss{}, problem, 0, regions.count * regions.chunks);
  check(gradient.intact(), "map wrote beside the gradient", runner.isa);
  return gradient;
}

// ---- Checking ----

bool close(double got, double expected, double relative, double absolute) {
  if (std::isnan(expected)) return std::isnan(got);
  return std::fabs(got - expected) <= relative * std::fabs(expected) + absolute;
}

// One number at a time, as a GPU thread would: the decision of all instruction sets.
template <class Loss, class Real>
bool portable_decision(const NaivePixel& pixel) {
  Real sums[Loss::kNumSums] = {};
  return Loss{}.accumulate(Pixel<Real>{static_cast<Real>(pixel.logit), pixel.positive, pixel.counts},
                           static_cast<Real>(pixel.uniform), sums);
}

template <DropSchedule kSchedule>
void check_kept(const char* isa, const Case& c, const Inputs& in, const Reduced& reduced) {
  using Loss = RandomDrop<kSchedule>;
  const Regions regions = regions_of(c);
  for (std::int64_t i = 0; i < c.shape.numel(); ++i) {
    const NaivePixel pixel = naive_pixel(c, in, i);
    const bool kept = reduced.is_kept(regions, i);
    const double d = naive_drop_probability(pixel.logit, kSchedule);
    const bool too_close = pixel.counts && !pixel.positive && std::fabs(pixel.uniform - d) < 1e-6;
    const bool expected = pixel.counts && (pixel.positive || !(pixel.uniform < d));
    check(too_close || kept == expected, "kept or not: isa, pixel, logit, u, d, got", isa, i, pixel.logit,
          pixel.uniform, d, kept);
    const bool portable =
        c.in_double() ? portable_decision<Loss, double>(pixel) : portable_decision<Loss, float>(pixel);
    check(kept == portable, "kept or not, as one number decides: isa, pixel, logit, u, got", isa, i, pixel.logit,
          pixel.uniform, kept);
  }
  for (std::int64_t r = 0; r < regions.count && regions.pixels % 64 != 0; ++r) {
    const auto last = static_cast<std::size_t>((r + 1) * words_a_region(regions) - 1);
    check(reduced.kept[last] >> (regions.pixels % 64) == 0, "no pixel is kept beyond the region", isa, r,
          reduced.kept[last]);
  }
}

struct Expected {
  NaiveSums sums;
  std::int64_t invalid = 0;
};

// From the engine's own kept bits, which check_kept() has judged.
Expected expected_sums(const Case& c, const Inputs& in, const Reduced& reduced, std::int64_t region) {
  const Regions regions = regions_of(c);
  Expected expected;
  for (std::int64_t i = region * regions.pixels; i < (region + 1) * regions.pixels; ++i) {
    const NaivePixel pixel = naive_pixel(c, in, i);
    const double label = in.target.get(i);
    if (pixel.counts && label != 0 && label != 1) ++expected.invalid;
    if (reduced.is_kept(regions, i)) expected.sums.add(pixel);
  }
  return expected;
}

template <class Loss>
void check_sums(const char* isa, const Case& c, const double* row, const Expected& expected) {
  const double relative = c.in_double() ? 1e-12 : 1e-5;
  const NaiveSums& sums = expected.sums;
  check(row[Loss::kPositives] == sums.positives, "positives: isa, got, expected", isa, row[Loss::kPositives],
        sums.positives);
  check(row[Loss::kNegatives] == sums.negatives, "kept negatives: isa, got, expected", isa, row[Loss::kNegatives],
        sums.negatives);
  check(close(row[Loss::kPositiveLoss], sums.positive_loss, relative, 1e-30), "loss of positives: isa, got, expected",
        isa, row[Loss::kPositiveLoss], sums.positive_loss);
  check(close(row[Loss::kNegativeLoss], sums.negative_loss, relative, 1e-30), "loss of negatives: isa, got, expected",
        isa, row[Loss::kNegativeLoss], sums.negative_loss);
  const double invalid = row[RegionTable<Loss>::kInvalid];
  check(invalid == static_cast<double>(expected.invalid), "invalid labels: isa, got, expected", isa, invalid,
        expected.invalid);
}

// A region's row of the table: its chunks' sums, settled.
template <class Loss>
double settle_row(const Case& c, const Reduced& reduced, std::int64_t region, double* row) {
  const Regions regions = regions_of(c);
  constexpr int kSums = Loss::kNumSums + 1;
  for (std::int64_t chunk = region * regions.chunks; chunk < (region + 1) * regions.chunks; ++chunk) {
    for (int s = 0; s < kSums; ++s) row[s] += reduced.partial_sums[static_cast<std::size_t>(chunk * kSums + s)];
  }
  return settle_group(Loss{}, row, 1, c.reduction, regions.count);
}

// Rounding to the gradient's type, and beside it what float arithmetic and the clamp of exp may err.
void check_gradient_value(const char* isa, const Case& c, std::int64_t i, double logit, double got, double expected) {
  double relative = c.in_double() ? 1e-13 : 2e-6, absolute = c.in_double() ? 1e-300 : 1e-36;
  if (c.logits == DType::kFloat16) relative += 0x1p-11, absolute += 0x1p-25;
  if (c.logits == DType::kBFloat16) relative += 0x1p-8;
  check(close(got, expected, relative, absolute), "gradient: isa, pixel, logit, got, expected", isa, i, logit, got,
        expected);
}

void check_gradient(const char* isa, const Case& c, const Inputs& in, const Reduced& reduced,
                    const TestTensor& gradient, const std::vector<NaiveRegion>& naive, const std::vector<bool>& valid) {
  const Regions regions = regions_of(c);
  for (std::int64_t i = 0; i < c.shape.numel(); ++i) {
    const auto region = static_cast<std::size_t>(i / regions.pixels);
    const double got = gradient.get(i);
    if (!reduced.is_kept(regions, i)) {
      check(same(got, 0.0), "gradient of a pixel that does not count: isa, pixel, got", isa, i, got);
    } else if (!valid[region]) {
      check(std::isnan(got), "gradient where labels are invalid: isa, pixel, got", isa, i, got);
    } else {
      const NaivePixel pixel = naive_pixel(c, in, i);
      const double expected = naive[region].gradient(pixel) * upstream_of(c, static_cast<std::int64_t>(region));
      check_gradient_value(isa, c, i, pixel.logit, got, expected);
    }
  }
}

template <class Loss>
void check_settle_and_map(const Runner<Loss>& runner, const Case& c, Inputs& in, Reduced& reduced) {
  using Table = RegionTable<Loss>;
  const std::int64_t count = c.regions();
  std::vector<double> table(static_cast<std::size_t>(count * Table::kColumns));
  std::vector<NaiveRegion> naive;
  std::vector<bool> valid;
  for (std::int64_t r = 0; r < count; ++r) {
    double* row = table.data() + r * Table::kColumns;
    const double value = settle_row<Loss>(c, reduced, r, row);
    const Expected expected = expected_sums(c, in, reduced, r);
    check_sums<Loss>(runner.isa, c, row, expected);
    naive.emplace_back(expected.sums, c.reduction, count);
    valid.push_back(expected.invalid == 0);
    const double expected_value = valid.back() ? naive.back().value : std::numeric_limits<double>::quiet_NaN();
    check(close(value, expected_value, c.in_double() ? 1e-12 : 1e-5, 1e-30), "value: isa, region, got, expected",
          runner.isa, r, value, expected_value);
  }
  const TestTensor gradient = run_map(runner, c, in, reduced, table);
  check_gradient(runner.isa, c, in, reduced, gradient, naive, valid);
}

template <DropSchedule kSchedule>
void run(const Case& c, Inputs& in) {
  using Loss = RandomDrop<kSchedule>;
  std::optional<Reduced> first;
  for (const Runner<Loss>& runner : runners<Loss>()) {
    Reduced reduced = run_reduce(runner, c, in, false);
    const Reduced again = run_reduce(runner, c, in, true);
    check(reduced.kept.same_bytes_as(again.kept), "kept bits depend on who works on which chunk", runner.isa);
    check(reduced.partial_sums.same_bytes_as(again.partial_sums), "sums depend on who works on which chunk",
          runner.isa);
    check_kept<kSchedule>(runner.isa, c, in, reduced);
    check_settle_and_map(runner, c, in, reduced);
    if (first) check(first->kept.same_bytes_as(reduced.kept), "kept bits differ from the baseline's", runner.isa);
    else first.emplace(std::move(reduced));
  }
}

void print_case(DropSchedule schedule, const Case& c) {
  std::printf("  in the case:");
  for (const std::int64_t size : c.shape.size) print_value(size);
  std::printf("; schedule, balance, reduction, chunk:");
  print_value(schedule), print_value(c.balance), print_value(c.reduction), print_value(c.chunk_pixels);
  std::printf("; types and layouts of logits, target, uniform (or seed), mask:");
  print_value(c.logits), print_value(c.logits_layout), print_value(c.target), print_value(c.target_layout);
  if (c.uniform_given) print_value(c.uniform), print_value(c.uniform_layout);
  else print_value(c.seed);
  if (c.masked) print_value(c.mask_layout);
  std::printf("; ignore_index:");
  if (c.ignore_index) print_value(*c.ignore_index);
  std::printf("\n");
}

void run(DropSchedule schedule, const Case& c, Inputs& in) {
  const std::uint64_t failed_before = check.failed();
  switch (schedule) {
    case DropSchedule::kLinear: run<DropSchedule::kLinear>(c, in); break;
    case DropSchedule::kSquare: run<DropSchedule::kSquare>(c, in); break;
    case DropSchedule::kLog: run<DropSchedule::kLog>(c, in); break;
  }
  if (check.reported_since(failed_before)) print_case(schedule, c);
}

void run(DropSchedule schedule, const Case& c) {
  Inputs in = make_inputs(c);
  run(schedule, c, in);
}

constexpr DropSchedule kSchedules[] = {DropSchedule::kLinear, DropSchedule::kSquare, DropSchedule::kLog};

// ---- Tests ----

std::int64_t smallest_divisor(std::int64_t number) {
  for (std::int64_t d = 2; d * d <= number; ++d) {
    if (number % d == 0) return d;
  }
  return 1;
}

// `pixels` of a channel as (D, H, W), with D and H above 1 where it can be divided so.
Shape shape_of(std::int64_t images, std::int64_t channels, std::int64_t pixels) {
  const std::int64_t d = smallest_divisor(pixels), h = smallest_divisor(pixels / d);
  return {{images, channels, d, h, pixels / d / h}};
}

template <class T, std::size_t kCount>
T pick(Sequence& sequence, const T (&from)[kCount]) {
  return from[sequence.below(kCount)];
}

Case some_case(Sequence& sequence, std::int64_t pixels) {
  Case c;
  const bool large = pixels > 4096;
  c.shape = shape_of(1 + static_cast<std::int64_t>(sequence.below(large ? 1 : 3)),
                     1 + static_cast<std::int64_t>(sequence.below(large ? 2 : 3)), pixels);
  c.balance = pick(sequence, {Balance::kChannel, Balance::kChannel, Balance::kImage, Balance::kBatch});
  c.chunk_pixels = pick(sequence, {16 * kBlock, 16 * kBlock, kBlock, 2 * kBlock});
  c.target = pick(sequence, kTargetTypes);
  c.logits_layout = pick(sequence, kLayouts);
  c.target_layout = pick(sequence, kLayouts);
  c.uniform_layout = pick(sequence, kLayouts);
  c.mask_layout = pick(sequence, kMaskLayouts);
  c.masked = sequence.below(3) == 0;
  if (sequence.next() & 1) c.ignore_index = pick(sequence, {-100, 255, 2, 0, 1, -1});
  c.invalid_share = sequence.below(6) == 0 ? 0.01 : 0;
  c.uniform_given = sequence.next() & 1;
  c.uniform = sequence.next() & 1 ? DType::kFloat32 : DType::kFloat64;
  c.seed = sequence.next() >> sequence.below(64);
  c.reduction = pick(sequence, {Reduction::kNone, Reduction::kMean, Reduction::kSum});
  c.upstream_per_region = c.reduction == Reduction::kNone;
  return c;
}

void test_sizes() {
  Sequence sequence(2024);
  for (const std::int64_t pixels : {1, 4, 7, 63, 64, 65, 130, 2047, 2048, 2049, 4096, 32768 * 3 + 17}) {
    for (const DType logits : kLogitTypes) {
      for (const DropSchedule schedule : kSchedules) {
        for (int repeat = 0; repeat < (pixels <= 130 ? 8 : pixels <= 4096 ? 3 : 1); ++repeat) {
          Case c = some_case(sequence, pixels);
          c.logits = logits;
          run(schedule, c);
        }
      }
    }
  }
}

// The usual case, for which the engine reads and writes in place: everything contiguous and of float.
void test_in_place() {
  for (const DType type : {DType::kFloat32, DType::kFloat64}) {
    for (const std::int64_t pixels : {64, 65, 2048, 6400, 32768 + 2112}) {
      for (const DropSchedule schedule : kSchedules) {
        Case c;
        c.shape = shape_of(2, 2, pixels);
        c.logits = c.uniform = type;
        c.target = DType::kFloat32;
        for (const bool with_labels_left_out : {false, true}) {
          c.uniform_given = c.masked = with_labels_left_out;
          if (with_labels_left_out) c.ignore_index = 255;
          run(schedule, c);
        }
      }
    }
  }
}

// Each type of logits with each type of labels. An ignore_index that labels of the type cannot hold ignores nothing:
// what the wrapped or rounded label then says is invalid.
void test_types_and_ignore_index() {
  constexpr std::optional<std::int64_t> kNone;
  for (const DType logits : kLogitTypes) {
    for (const DType target : kTargetTypes) {
      for (const std::optional<std::int64_t> ignore_index :
           {kNone, std::optional<std::int64_t>(-100), std::optional<std::int64_t>(255),
            std::optional<std::int64_t>(257), std::optional<std::int64_t>(2049), std::optional<std::int64_t>(70000),
            std::optional<std::int64_t>(256), std::optional<std::int64_t>(16777217)}) {
        Case c;
        c.logits = logits;
        c.target = target;
        c.ignore_index = ignore_index;
        c.shape = shape_of(1, 2, 65);
        run(DropSchedule::kLinear, c);
        c.target_layout = Layout::kChannelsLast;
        c.shape = shape_of(2, 1, 64);
        run(DropSchedule::kSquare, c);
      }
    }
  }
}

// ignore_index may be any int64.
void test_extreme_ignore_index() {
  for (const DType target : kTargetTypes) {
    for (const std::int64_t ignore_index :
         {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}) {
      Case c;
      c.target = target;
      c.shape = shape_of(1, 1, 100);
      Inputs in = make_inputs(c);
      c.ignore_index = ignore_index;
      run(DropSchedule::kLinear, c, in);
    }
  }
}

// Labels of 0.5, NaN and -0 in the types that have them: invalid, invalid, negative.
void test_odd_labels() {
  for (const DType target : {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    for (const std::int64_t pixels : {64, 70}) {
      for (const double label : {0.5, std::numeric_limits<double>::quiet_NaN(), -0.0, -1.0}) {
        Case c;
        c.target = target;
        c.shape = shape_of(1, 1, pixels);
        Inputs in = make_inputs(c);
        for (const std::int64_t i : {0, 17, 63}) in.target.set(i, label);
        run(DropSchedule::kLinear, c, in);
      }
    }
  }
}

// A NaN whose low bits are `payload` once it is a float.
double nan_with(std::uint64_t payload) { return std::bit_cast<double>(0x7ff8000000000000ull | payload << 29); }

// Counting pixels keep a NaN, whatever their random number; it reaches the loss and its own gradient alone. Any NaN:
// the payloads are those that an exponent made of a NaN's bits turns into ordinary numbers.
void test_nan_logits() {
  for (const DType logits : kLogitTypes) {
    for (const std::uint64_t payload : {0x0ull, 0x1ull, 0x180ull, 0x1ffull, 0x3fffffull}) {
      for (const DropSchedule schedule : kSchedules) {
        for (const double label : {0.0, 1.0}) {
          Case c;
          c.logits = logits;
          c.shape = shape_of(1, 1, 130);
          c.uniform_given = true;
          Inputs in = make_inputs(c);
          for (const std::int64_t i : {3, 64, 129}) {
            in.logits.set(i, nan_with(payload));
            in.target.set(i, label);
            in.uniform.set(i, 0);
          }
          run(schedule, c, in);
        }
      }
    }
  }
}

void test_ignored_nan_logits() {
  for (const DType logits : kLogitTypes) {
    for (const bool masked : {false, true}) {
      for (const DropSchedule schedule : kSchedules) {
        Case c;
        c.logits = logits;
        c.shape = shape_of(1, 1, 130);
        c.masked = masked;
        if (!masked) c.ignore_index = 255;
        Inputs in = make_inputs(c);
        for (std::int64_t i = 0; i < c.shape.numel(); i += 3) {
          in.logits.set(i, nan_with(0));
          if (masked) in.mask.set(i, 0);
          else in.target.set(i, 255);
        }
        run(schedule, c, in);
      }
    }
  }
}

// The random number 0 drops every negative of finite logit where d > 0, however small d is.
void test_least_random_number_drops() {
  for (const DType logits : kLogitTypes) {
    for (const DropSchedule schedule : {DropSchedule::kLinear, DropSchedule::kSquare}) {
      Case c;
      c.logits = logits;
      c.shape = shape_of(1, 1, 64);
      c.uniform_given = true;
      Inputs in = make_inputs(c);
      for (std::int64_t i = 0; i < 64; ++i) {
        in.target.set(i, 0);
        in.uniform.set(i, 0);
      }
      run(schedule, c, in);
      const auto nothing_kept = [&]<DropSchedule kSchedule>() {
        for (const auto& runner : runners<RandomDrop<kSchedule>>()) {
          const Reduced reduced = run_reduce(runner, c, in, false);
          check(reduced.kept[0] == 0, "u = 0 drops: isa, dtype, kept", runner.isa, c.logits, reduced.kept[0]);
        }
      };
      if (schedule == DropSchedule::kLinear) nothing_kept.operator()<DropSchedule::kLinear>();
      else nothing_kept.operator()<DropSchedule::kSquare>();
    }
  }
}

// Regions without positives, without negatives, and with nothing that counts, beside an ordinary one.
void test_one_sided_regions() {
  for (const DType logits : kLogitTypes) {
    for (const Reduction reduction : {Reduction::kNone, Reduction::kMean, Reduction::kSum}) {
      for (const DropSchedule schedule : kSchedules) {
        Case c;
        c.logits = logits;
        c.shape = shape_of(4, 1, 70);
        c.ignore_index = 255;
        c.reduction = reduction;
        Inputs in = make_inputs(c);
        for (std::int64_t i = 0; i < 70; ++i) {
          in.target.set(i, 0);
          in.target.set(70 + i, 1);
          in.target.set(140 + i, 255);
        }
        run(schedule, c, in);
      }
    }
  }
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  for (const char* isa : {"avx2", "avx512"}) {
    if (!machine_has(isa)) std::printf("skipped: this processor does not have %s\n", isa);
  }
  test_sizes();
  test_in_place();
  test_types_and_ignore_index();
  test_extreme_ignore_index();
  test_odd_labels();
  test_nan_logits();
  test_ignored_nan_logits();
  test_least_random_number_drops();
  test_one_sided_regions();
  return check.result();
}
