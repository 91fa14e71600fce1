// Segments: thinning, the counts in their ranges and the loss that weighs them, in every instruction set that this
// processor has, against one pixel after the other.
#include "losses/segment_thickness.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>
#include <vector>

#include "check.h"
#include "instruction_sets.h"
#include "naive_random_drop.h"
#include "tensor.h"

namespace rarepixel::test {
namespace {

struct Runner {
  const char* isa;
  SegmentKernels segments;
  Kernels<SegmentThickness> loss;
};

std::vector<Runner> runners() {
  const auto segments = of_every_instruction_set<SegmentKernels>();
  const auto losses = of_every_instruction_set<KernelsOf<operators::segment_thickness>>();
  std::vector<Runner> all;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    all.push_back({segments[i].isa, segments[i].kernels, losses[i].kernels});
  }
  return all;
}

std::int64_t up_to(Sequence& sequence, std::int64_t bound) {
  return static_cast<std::int64_t>(sequence.below(static_cast<std::uint64_t>(bound) + 1));
}

template <class T>
T pick(Sequence& sequence, const std::vector<T>& from) {
  return from[sequence.below(from.size())];
}

// Memory of exactly the size that is asked for, so that AddressSanitizer sees what is read or written beyond it.
template <class T>
std::vector<T> zeros(std::int64_t count) {
  return std::vector<T>(count);
}

struct BitMemory {
  std::int64_t rows, columns, words = (columns + 63) / 64;
  std::vector<std::uint64_t> bits = zeros<std::uint64_t>((rows + 2) * (words + 2));
  std::vector<std::uint64_t> lines = zeros<std::uint64_t>(2 * words), copy = zeros<std::uint64_t>(rows * words);
  std::vector<std::uint8_t> look = zeros<std::uint8_t>(rows + 2), changed = zeros<std::uint8_t>(rows);

  BitImage image() { return {rows, columns, bits.data(), lines.data(), look.data(), changed.data()}; }
};

// ---- Thinning ----

struct Picture {
  std::int64_t rows, columns;
  std::vector<std::uint8_t> pixels = zeros<std::uint8_t>(rows * columns);

  std::uint8_t& at(std::int64_t r, std::int64_t c) { return pixels[r * columns + c]; }
  bool is_set(std::int64_t r, std::int64_t c) const {
    return r >= 0 && r < rows && c >= 0 && c < columns && pixels[r * columns + c] != 0;
  }
};

// Nothing, everything, noise, or discs.
Picture some_picture(Sequence& sequence, std::int64_t rows, std::int64_t columns) {
  Picture picture{rows, columns};
  const std::uint64_t kind = sequence.below(20);
  const double density = kind == 0 ? 0 : kind == 1 ? 1 : kind < 10 ? pick<double>(sequence, {0.1, 0.5, 0.8, 0.97}) : 0;
  for (std::uint8_t& pixel : picture.pixels) pixel = sequence.unit() < density;
  for (std::int64_t discs = kind < 10 ? 0 : 1 + up_to(sequence, columns / 8); discs > 0; --discs) {
    const std::int64_t y = up_to(sequence, rows), x = up_to(sequence, columns), radius = 1 + up_to(sequence, 9);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = std::max<std::int64_t>(0, x - radius); c < std::min(columns, x + radius); ++c) {
        if ((r - y) * (r - y) + (c - x) * (c - x) < radius * radius) picture.at(r, c) = 1;
      }
    }
  }
  return picture;
}

// G1, G2 and G3 of thinning.h; x[9] is x1 again, x[0] the pixel itself.
bool naive_deletes(const Picture& picture, std::int64_t r, std::int64_t c, bool second) {
  constexpr int kDown[] = {0, 0, -1, -1, -1, 0, 1, 1, 1, 0}, kRight[] = {0, 1, 1, 0, -1, -1, -1, 0, 1, 1};
  bool x[10];
  for (int i = 0; i < 10; ++i) x[i] = picture.is_set(r + kDown[i], c + kRight[i]);
  int runs = 0, n1 = 0, n2 = 0;
  for (int k = 1; k <= 4; ++k) {
    runs += !x[2 * k - 1] && (x[2 * k] || x[2 * k + 1]);
    n1 += x[2 * k - 1] || x[2 * k];
    n2 += x[2 * k] || x[2 * k + 1];
  }
  const bool g2 = std::min(n1, n2) >= 2 && std::min(n1, n2) <= 3;
  const bool g3 = second ? !((x[6] || x[7] || !x[4]) && x[5]) : !((x[2] || x[3] || !x[8]) && x[1]);
  return x[0] && runs == 1 && g2 && g3;
}

Picture naive_thin(Picture picture) {
  bool second = false;
  for (int idle = 0; idle < 2; second = !second) {
    Picture next = picture;
    for (std::int64_t r = 0; r < picture.rows; ++r) {
      for (std::int64_t c = 0; c < picture.columns; ++c) {
        if (naive_deletes(picture, r, c, second)) next.at(r, c) = 0;
      }
    }
    idle = next.pixels == picture.pixels ? idle + 1 : 0;
    picture = std::move(next);
  }
  return picture;
}

void test_thinning(Sequence& sequence) {
  const std::int64_t rows = 1 + up_to(sequence, 39);
  const std::int64_t columns = pick<std::int64_t>(sequence, {1 + up_to(sequence, 199), 1, 2, 63, 64, 65, 128, 129});
  Picture picture = some_picture(sequence, rows, columns);
  const Picture expected = naive_thin(picture);
  for (std::uint8_t& pixel : picture.pixels) pixel = pixel != 0 ? pick<std::uint8_t>(sequence, {1, 2, 128, 255}) : 0;
  for (const Runner& runner : runners()) {
    BitMemory memory{rows, columns};
    std::vector<std::uint8_t> skeleton(picture.pixels.size(), 0xa5);
    runner.segments.thin({memory.image(), picture.pixels.data(), skeleton.data()});
    const auto [got, other] = std::mismatch(skeleton.begin(), skeleton.end(), expected.pixels.begin());
    check(got == skeleton.end(), "skeleton: isa, rows, columns, first wrong pixel", runner.isa, rows, columns,
          got - skeleton.begin());
  }
}

// ---- A batch with segments ----

constexpr std::int64_t kIgnored = 7;
constexpr double kPixelWeights[] = {0.25, 0.625, 0.8};
using Loss = SegmentThickness;

template <class Real>
struct Batch {
  std::int64_t images, rows, columns, pixels;  // pixels of an image
  TestTensor logits, target, mask;
  bool masked, ignoring;
  std::vector<std::int64_t> starts = zeros<std::int64_t>(images + 1);
  std::vector<std::int32_t> ids = zeros<std::int32_t>(images * pixels);
  std::vector<Real> weights = {};

  std::int64_t segments_of(std::int64_t image) const { return starts[image + 1] - starts[image]; }
  std::int64_t number(std::int64_t i) const { return std::llabs(ids[i]); }
  bool counts(std::int64_t i) const {
    return !(ignoring && target.get(i) == kIgnored) && !(masked && mask.get(i) == 0);
  }
  int kind(std::int64_t i) const {
    return target.get(i) == 1 ? Loss::kVessel : number(i) > 0 ? Loss::kNear : Loss::kBackground;
  }
  double weight(std::int64_t i) const {
    if (number(i) > 0) return weights[starts[i / pixels] + number(i)];
    return kind(i) == Loss::kBackground && logits.get(i) >= 0 ? 2 : 1;
  }

  Labels labels() { return {target.view(), masked ? mask.view() : TensorView{}, ignoring, ignoring ? kIgnored : 0}; }
  Segments segments() {
    return {{ids.data(), DType::kInt32, 1, {images * pixels}, {1}}, starts.data(), weights.data()};
  }
};

template <class Real>
constexpr DType kTypeOf = sizeof(Real) == 4 ? DType::kFloat32 : DType::kFloat64;

// Sizes, layouts, segments and their weights.
template <class Real>
Batch<Real> empty_batch(Sequence& sequence) {
  const std::int64_t images = 1 + up_to(sequence, 2), rows = 1 + up_to(sequence, 5);
  const std::int64_t columns =
      pick<std::int64_t>(sequence, {1 + up_to(sequence, 199), 63, 64, 65, 128, 200, kBlock, kBlock + 65});
  const auto tensor = [&](DType type) {
    const Layout layout = pick<Layout>(sequence, {Layout::kContiguous, Layout::kContiguous, Layout::kShifted,
                                                  Layout::kEverySecond, Layout::kPaddedRows, Layout::kReversed});
    return TestTensor({{images, 1, 1, rows, columns}}, layout, type);
  };
  const DType label_type = pick<DType>(sequence, {DType::kByte, DType::kFloat32});
  const bool masked = sequence.below(2) == 0, ignoring = sequence.below(4) != 0;
  Batch<Real> batch{
      images, rows,    columns, rows * columns, tensor(kTypeOf<Real>), tensor(label_type), tensor(DType::kByte),
      masked, ignoring};
  for (std::int64_t n = 0; n < images; ++n) batch.starts[n + 1] = batch.starts[n] + up_to(sequence, 6);
  batch.weights = zeros<Real>(1 + batch.starts.back());
  for (Real& weight : batch.weights) weight = static_cast<Real>(1 + 2 * sequence.unit());
  batch.weights[0] = std::numeric_limits<Real>::quiet_NaN();  // unused
  return batch;
}

// Ids come in runs, and are 0 in many of them.
// In some batches ids are beyond their image's segments, labels invalid or logits NaN.
template <class Real>
Batch<Real> some_batch(Sequence& sequence) {
  Batch<Real> batch = empty_batch<Real>(sequence);
  const bool unknown = sequence.below(4) == 0, invalid = sequence.below(4) == 0, nan = sequence.below(4) == 0;
  Picture predicted{batch.rows, batch.columns};
  std::int64_t number = 0, left = 0;
  for (std::int64_t i = 0; i < batch.images * batch.pixels; ++i, --left) {
    if (i % batch.pixels == 0) predicted = some_picture(sequence, batch.rows, batch.columns), left = 0;
    double logit = predicted.pixels[i % batch.pixels] != 0 ? 6 * sequence.unit() : -6 * sequence.unit();
    if (sequence.below(50) == 0) logit = pick<double>(sequence, {0.0, -0.0, 80, -80});
    if (nan && sequence.below(50) == 0) logit = std::nan("");
    batch.logits.set(i, logit);
    const std::uint64_t die = sequence.below(100);
    batch.target.set(i, die < 30 ? 1 : die < 50 && batch.ignoring ? kIgnored : die == 99 && invalid ? 3 : 0);
    batch.mask.set(i, pick<double>(sequence, {0, 1, 1, 255}));

    const std::int64_t segments = batch.segments_of(i / batch.pixels);
    if (left == 0) {
      left = 1 + up_to(sequence, pick<std::int64_t>(sequence, {1, 8, 150}));
      number = sequence.below(2) == 0 ? 0 : up_to(sequence, segments);
    }
    std::int64_t id = sequence.below(3) == 0 ? -number : number;
    using Limits = std::numeric_limits<std::int32_t>;
    if (unknown && sequence.below(40) == 0) {
      id = pick<std::int64_t>(sequence, {segments + 1, -segments - 1, Limits::min(), Limits::max()});
    }
    batch.ids[i] = static_cast<std::int32_t>(id);
  }
  return batch;
}

// ---- Counts ----

// Returns how many ids are unknown.
template <class Real>
std::int64_t naive_counts(const Batch<Real>& batch, std::int64_t image, std::vector<SegmentCounts>& counts) {
  const std::int64_t first = image * batch.pixels;
  Picture predicted{batch.rows, batch.columns};
  for (std::int64_t i = 0; i < batch.pixels; ++i) predicted.pixels[i] = batch.logits.get(first + i) >= 0;
  const Picture skeleton = naive_thin(predicted);
  std::int64_t unknown = 0;
  for (std::int64_t i = 0; i < batch.pixels; ++i) {
    const std::int64_t number = batch.number(first + i);
    if (number > batch.segments_of(image)) ++unknown;
    else if (number > 0 && batch.counts(first + i)) {
      SegmentCounts& of_segment = counts[number - 1];
      of_segment.annotated_skeleton += batch.ids[first + i] < 0;
      of_segment.annotated += batch.target.get(first + i) == 1;
      of_segment.predicted_skeleton += skeleton.pixels[i];
      of_segment.predicted += predicted.pixels[i];
    }
  }
  return unknown;
}

constexpr std::pair<const char*, std::int64_t SegmentCounts::*> kCounts[] = {
    {"annotated skeleton: isa, got, expected", &SegmentCounts::annotated_skeleton},
    {"annotated: isa, got, expected", &SegmentCounts::annotated},
    {"predicted skeleton: isa, got, expected", &SegmentCounts::predicted_skeleton},
    {"predicted: isa, got, expected", &SegmentCounts::predicted}};

// Returns whether all ids are known: the counts mean something only then.
template <class Real>
bool test_counts(Batch<Real>& batch) {
  bool all_known = true;
  for (std::int64_t image = 0; image < batch.images; ++image) {
    std::vector<SegmentCounts> expected(batch.segments_of(image));
    const std::int64_t unknown = naive_counts(batch, image, expected);
    all_known = all_known && unknown == 0;
    for (const Runner& runner : runners()) {
      BitMemory memory{batch.rows, batch.columns};
      std::vector<SegmentCounts> counts(expected.size());
      const std::int64_t got = runner.segments.count({memory.image(), memory.copy.data(), image, batch.logits.view(),
                                                      batch.labels(), batch.segments(), counts.data()});
      check(got == unknown, "unknown ids: isa, got, expected", runner.isa, got, unknown);
      for (std::size_t s = 0; unknown == 0 && s < expected.size(); ++s) {
        for (const auto& [what, count] : kCounts) {
          check(counts[s].*count == expected[s].*count, what, runner.isa, counts[s].*count, expected[s].*count);
        }
      }
    }
  }
  return all_known;
}

// ---- The loss ----

bool close(double got, double expected, double relative) {
  if (std::isnan(expected)) return std::isnan(got);
  return std::fabs(got - expected) <= relative * std::fabs(expected) + 1e-36;
}

using Table = RegionTable<Loss>;
constexpr int kSums = Loss::kNumSums + 1;  // the last counts invalid labels
constexpr double kUpstream = -1.75, kScale[] = {0.5, 2, 0.75};

// [images, kSums]
template <class Real>
std::vector<double> naive_sums(const Batch<Real>& batch) {
  std::vector<double> all = zeros<double>(batch.images * kSums);
  for (std::int64_t i = 0; i < batch.images * batch.pixels; ++i) {
    if (!batch.counts(i)) continue;
    double* sums = all.data() + i / batch.pixels * kSums;
    const int kind = batch.kind(i);
    const double x = batch.logits.get(i), label = batch.target.get(i);
    sums[Loss::kLoss] += kPixelWeights[kind] * batch.weight(i) * naive_softplus(kind == Loss::kVessel ? -x : x);
    sums[Loss::kBackgroundPixels + kind] += 1;
    sums[Loss::kNumSums] += label != 0 && label != 1;
  }
  return all;
}

template <class Real>
double naive_gradient(const Batch<Real>& batch, std::int64_t i) {
  if (!batch.counts(i)) return 0;
  const int kind = batch.kind(i);
  const double x = batch.logits.get(i), slope = kind == Loss::kVessel ? -naive_sigmoid(-x) : naive_sigmoid(x);
  return kUpstream * kScale[i / batch.pixels] * kPixelWeights[kind] * batch.weight(i) * slope;
}

template <class Real>
constexpr double kRelative = sizeof(Real) == 4 ? 1e-5 : 1e-12;

template <class Real>
void test_reduce(const Runner& runner, Batch<Real>& batch, const Regions& regions) {
  std::vector<double> partial_sums = zeros<double>(regions.count * regions.chunks * kSums);
  ReduceProblem problem;
  problem.regions = regions;
  problem.logits = batch.logits.view();
  problem.labels = batch.labels();
  problem.segments = batch.segments();
  problem.partial_sums = partial_sums.data();
  Loss loss;
  std::copy_n(kPixelWeights, 3, loss.pixel_weights);
  runner.loss.reduce(loss, problem, 0, regions.count * regions.chunks);
  const std::vector<double> expected = naive_sums(batch);
  std::vector<double> sums(expected.size());
  for (std::size_t i = 0; i < partial_sums.size(); ++i) {
    sums[i / (kSums * regions.chunks) * kSums + i % kSums] += partial_sums[i];
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const int which = static_cast<int>(i % kSums);
    check(close(sums[i], expected[i], which == Loss::kLoss ? kRelative<Real> : 0), "sum: isa, which, got, expected",
          runner.isa, which, sums[i], expected[i]);
  }
}

template <class Real>
void test_map(const Runner& runner, Batch<Real>& batch, const Regions& regions) {
  std::vector<double> table = zeros<double>(regions.count * Table::kColumns);
  for (std::int64_t n = 0; n < batch.images; ++n) {
    std::copy_n(kPixelWeights, 3, &table[n * Table::kColumns + Table::kCoefficients]);
    table[n * Table::kColumns + Table::kScale] = kScale[n];
  }
  TestTensor upstream({{1, 1, 1, 1, 1}}, Layout::kContiguous, kTypeOf<Real>);
  upstream.set(0, kUpstream);
  TestTensor gradient({{batch.images, 1, 1, batch.rows, batch.columns}}, Layout::kContiguous, kTypeOf<Real>);
  MapProblem problem;
  problem.regions = regions;
  problem.logits = batch.logits.view();
  problem.labels = batch.labels();
  problem.segments = batch.segments();
  problem.table = table.data();
  problem.upstream = upstream.view();
  problem.gradient = gradient.view();
  runner.loss.map(Loss{}, problem, 0, regions.count * regions.chunks);
  check(gradient.intact(), "map wrote beside the gradient", runner.isa);
  for (std::int64_t i = 0; i < gradient.numel(); ++i) {
    const double got = gradient.get(i), expected = naive_gradient(batch, i);
    check(close(got, expected, kRelative<Real>), "gradient: isa, pixel, got, expected", runner.isa, i, got, expected);
  }
}

template <class Real>
void test_batch(Sequence& sequence) {
  Batch<Real> batch = some_batch<Real>(sequence);
  if (!test_counts(batch)) return;
  const Regions regions{batch.images, batch.pixels, kBlock, (batch.pixels + kBlock - 1) / kBlock};
  for (const Runner& runner : runners()) {
    test_reduce(runner, batch, regions);
    test_map(runner, batch, regions);
  }
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  Sequence sequence(2018);
  for (int i = 0; i < 300; ++i) test_thinning(sequence);
  for (int i = 0; i < 150; ++i) {
    test_batch<float>(sequence);
    test_batch<double>(sequence);
  }
  return check.result();
}
