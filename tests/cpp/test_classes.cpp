// Losses over a softmax: reduce, settle and map on raw pointers, in every instruction set that this processor has,
// against one pixel after the other in plain double.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "check.h"
#include "instruction_sets.h"
#include "losses/softmax_unified_focal.h"
#include "tensor.h"

namespace rarepixel::test {
namespace {

using Loss = SoftmaxUnifiedFocal;
using Table = RegionTable<Loss>;
constexpr int kSums = Loss::kNumSums;

using Runner = OfInstructionSet<KernelsOf<operators::softmax_unified_focal>>;

std::vector<Runner> runners() { return of_every_instruction_set<KernelsOf<operators::softmax_unified_focal>>(); }

// Calls run(loss, its kernels): soft labels have a loss of their own, whose overlaps are here those of products.
template <class Run>
void with_kernels(const Runner& runner, const Loss& loss, ClassLabels kind, const Run& run) {
  if (kind != ClassLabels::kSoft) return run(loss, static_cast<const Kernels<Loss>&>(runner.kernels));
  using Soft = SoftSoftmaxUnifiedFocal;
  Soft soft;
  static_cast<Loss&>(soft) = loss;
  soft.semimetric = false;
  run(soft, static_cast<const Kernels<Soft>&>(runner.kernels));
}

template <class T>
T pick(Sequence& sequence, const std::vector<T>& from) {
  return from[sequence.below(from.size())];
}

struct Case {
  Shape shape;  // of the logits
  ClassLabels kind;
  DType logits, target;
  Layout logits_layout, target_layout;
  bool one_region, masked, ignoring;
  Reduction reduction;
  Loss loss;

  std::int64_t images() const { return shape.size[0]; }
  std::int64_t classes() const { return shape.size[1]; }
  std::int64_t pixels() const { return shape.size[2] * shape.size[3] * shape.size[4]; }
  std::int64_t regions() const { return one_region ? 1 : images(); }
  Shape label_shape() const {
    Shape labels = shape;
    if (kind == ClassLabels::kIndexMap) labels.size[1] = 1;
    return labels;
  }
};

Case make_case(Sequence& sequence, const std::vector<double>& class_weights) {
  const std::vector<Layout> layouts = {Layout::kContiguous, Layout::kContiguous,   Layout::kShifted,
                                       Layout::kPaddedRows, Layout::kChannelsLast, Layout::kEverySecond};
  const std::vector<DType> floats = {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16};
  Case c{};
  const std::int64_t classes = pick<std::int64_t>(sequence, {2, 3, 4, 5, 9, 33, 254});
  const std::int64_t longest = classes > 32 ? 70 : 700;
  c.shape = {{1 + static_cast<std::int64_t>(sequence.below(2)), classes,
              1 + static_cast<std::int64_t>(sequence.below(2)), 1 + static_cast<std::int64_t>(sequence.below(2)),
              1 + static_cast<std::int64_t>(sequence.below(static_cast<std::uint64_t>(longest)))}};
  if (sequence.below(3) == 0) c.shape.size[4] = (c.shape.size[4] + 63) / 64 * 64;  // where nothing is copied
  c.kind = pick<ClassLabels>(sequence, {ClassLabels::kIndexMap, ClassLabels::kOneHot, ClassLabels::kSoft});
  c.logits = pick(sequence, floats);
  c.target = pick<DType>(sequence, {DType::kByte, DType::kInt16, DType::kInt32, DType::kInt64, DType::kFloat32,
                                    DType::kFloat64, DType::kBFloat16});
  if (c.kind == ClassLabels::kSoft) c.target = pick<DType>(sequence, {DType::kFloat32, DType::kFloat64});
  if (c.target == DType::kBFloat16 && classes > 33) c.target = DType::kFloat32;  // it holds whole numbers up to 256
  c.logits_layout = pick(sequence, layouts);
  c.target_layout = pick(sequence, layouts);
  c.one_region = sequence.below(2) == 0;
  c.masked = sequence.below(2) == 0;
  c.ignoring = sequence.below(2) == 0;
  c.reduction = pick<Reduction>(sequence, {Reduction::kMean, Reduction::kSum, Reduction::kNone});
  c.loss.background_class = static_cast<int>(sequence.below(static_cast<std::uint64_t>(classes)));
  c.loss.constant = 0.25;
  if (sequence.below(4) == 0) c.loss.generalized = rarepixel::DiceWeights::kSquare;
  c.loss.smooth = 1e-7;
  c.loss.has_focal = sequence.below(4) != 0;
  const double focal = c.loss.has_focal ? 1 : 0;
  c.loss.foreground = {0.7, 0.5, 0.6, 0.4, 0.3 * focal, sequence.below(2) == 0 ? 0 : 1.5};
  c.loss.background = {sequence.below(2) == 0 ? 0 : 0.4, 1, 0.3, 0.8, 0.9 * focal, 0.5};
  if (sequence.below(2) == 0) c.loss.class_weights = class_weights.data();
  return c;
}

// What a pixel is: the shares of its classes, or none where it does not count.
using Shares = std::vector<double>;

struct Inputs {
  TestTensor logits, target, mask;
  std::vector<Shares> shares;  // [images * pixels]

  explicit Inputs(const Case& c, Sequence& sequence)
      : logits(c.shape, c.logits_layout, c.logits),
        target(c.label_shape(), c.target_layout, c.target),
        mask(c.label_shape(), Layout::kBroadcastChannels, DType::kByte) {
    const std::int64_t classes = c.classes(), pixels = c.pixels();
    const std::int64_t labels = c.label_shape().size[1];
    for (std::int64_t i = 0; i < c.images() * classes * pixels; ++i) {
      logits.set(i, sequence.below(40) == 0 ? (sequence.next() & 1 ? 90.0 : -90.0) : 10 * sequence.unit() - 5);
    }
    for (std::int64_t i = 0; i < c.images() * pixels; ++i) {
      const std::int64_t image = i / pixels, pixel = i % pixels;
      const auto put = [&](std::int64_t k, double value) { target.set((image * labels + k) * pixels + pixel, value); };
      Shares share(static_cast<std::size_t>(classes));
      if (c.kind == ClassLabels::kSoft) {
        std::vector<double> weights(static_cast<std::size_t>(classes));
        double sum = 0;
        for (double& weight : weights) sum += weight = sequence.below(3) == 0 ? 0 : sequence.unit();
        if (sum == 0) sum = weights[0] = 1;
        for (std::int64_t k = 0; k < classes; ++k) {
          put(k, weights[static_cast<std::size_t>(k)] / sum);
          share[static_cast<std::size_t>(k)] = target.get((image * labels + k) * pixels + pixel);
        }
      } else {
        const std::uint64_t truth = sequence.below(static_cast<std::uint64_t>(classes));
        share[truth] = 1;
        if (c.kind == ClassLabels::kIndexMap) put(0, static_cast<double>(truth));
        else
          for (std::int64_t k = 0; k < classes; ++k) put(k, share[static_cast<std::size_t>(k)]);
      }
      bool counts = true;
      if (c.ignoring && sequence.below(5) == 0) {
        put(static_cast<std::int64_t>(sequence.below(static_cast<std::uint64_t>(labels))), 255);
        counts = false;
      }
      const bool masked_out = sequence.below(5) == 0;
      for (std::int64_t k = 0; k < labels; ++k) mask.set((image * labels + k) * pixels + pixel, masked_out ? 0 : 7);
      if (c.masked && masked_out) counts = false;
      if (!counts) {
        logits.set((image * classes) * pixels + pixel, std::nan(""));
        share.clear();
      }
      shares.push_back(share);
    }
  }
};

struct Result {
  std::vector<double> values, gradient, sums;  // sums: [regions * classes, kSums]
};

// ---- The formulas, one pixel after the other ----

Result naive(const Case& c, const Inputs& in) {
  const std::size_t classes = static_cast<std::size_t>(c.classes());
  const std::int64_t pixels = c.pixels();
  std::vector<std::vector<double>> logits, losses;  // of each pixel: x, and log(sum of the others' exp) - x
  for (std::int64_t i = 0; i < c.images() * pixels; ++i) {
    std::vector<double> x(classes), z(classes);
    for (std::size_t k = 0; k < classes; ++k) {
      x[k] = in.logits.get((i / pixels * c.classes() + static_cast<std::int64_t>(k)) * pixels + i % pixels);
    }
    for (std::size_t k = 0; k < classes; ++k) {
      double top = -INFINITY, sum = 0;
      for (std::size_t j = 0; j < classes; ++j) top = j == k ? top : std::max(top, x[j]);
      for (std::size_t j = 0; j < classes; ++j) sum += j == k ? 0 : std::exp(x[j] - top);
      z[k] = top + std::log(sum) - x[k];
    }
    logits.push_back(x);
    losses.push_back(z);
  }
  const auto sigmoid = [](double z) { return z < 0 ? std::exp(z) / (1 + std::exp(z)) : 1 / (1 + std::exp(-z)); };
  const auto softplus = [](double z) { return std::max(z, 0.0) + std::log1p(std::exp(-std::fabs(z))); };

  Result out;
  out.sums.assign(static_cast<std::size_t>(c.regions()) * classes * kSums, 0);
  const auto region_of = [&](std::size_t i) { return c.one_region ? 0 : i / static_cast<std::size_t>(pixels); };
  const auto exponent_of = [&](std::size_t k) { return c.loss.terms_of(static_cast<std::int64_t>(k)).focal_exponent; };
  for (std::size_t i = 0; i < in.shares.size(); ++i) {
    if (in.shares[i].empty()) continue;
    for (std::size_t k = 0; k < classes; ++k) {
      double* sums = out.sums.data() + (region_of(i) * classes + k) * kSums;
      const double y = in.shares[i][k], w = sigmoid(losses[i][k]);
      sums[Loss::kPixels] += y;
      sums[Loss::kFalseNegatives] += y * w;
      sums[Loss::kFalsePositives] += (1 - y) * sigmoid(-losses[i][k]);
      if (c.loss.has_focal) sums[Loss::kFocalSum] += y * std::pow(w, exponent_of(k)) * softplus(losses[i][k]);
    }
  }
  std::vector<double> rows(static_cast<std::size_t>(c.regions()) * classes * Table::kColumns, 0);
  for (std::size_t r = 0; r < rows.size() / Table::kColumns; ++r) {
    std::copy_n(out.sums.data() + r * kSums, kSums, rows.data() + r * Table::kColumns);
  }
  for (std::int64_t r = 0; r < c.regions(); ++r) {
    double* of_region = rows.data() + static_cast<std::size_t>(r) * classes * Table::kColumns;
    out.values.push_back(settle_group(c.loss, of_region, c.classes(), c.reduction, c.regions()));
  }
  // dL/dx_k = p_k (G_k - sum of p G), G the slopes by the probabilities: good where no p is near 1.
  out.gradient.assign(in.shares.size() * classes, 0);
  for (std::size_t i = 0; i < in.shares.size(); ++i) {
    if (in.shares[i].empty()) continue;
    const double* of_region = rows.data() + region_of(i) * classes * Table::kColumns;
    for (std::size_t k = 0; k < classes; ++k) {
      // A class's part by z: d/dx_k = -d/dz, d/dx_j = q_j d/dz.
      const double* coefficient = of_region + k * Table::kColumns + Table::kCoefficients;
      const double z = losses[i][k], w = sigmoid(z), p = sigmoid(-z), y = in.shares[i][k],
                   g = coefficient[Loss::kExponent];
      double by_z = y * coefficient[Loss::kByFalseNegative] * w * p;
      by_z -= (1 - y) * coefficient[Loss::kByFalsePositive] * w * p;
      if (c.loss.has_focal) {
        by_z += y * coefficient[Loss::kFocal] * std::pow(w, g) * (g * p * softplus(z) + w);
      }
      double rest = 0;
      for (std::size_t j = 0; j < classes; ++j) rest += j == k ? 0 : std::exp(logits[i][j] - logits[i][k] - z);
      for (std::size_t j = 0; j < classes; ++j) {
        const double q = j == k ? -1 : std::exp(logits[i][j] - logits[i][k] - z) / rest;
        out.gradient[i * classes + j] += q * by_z;
      }
    }
    const double scale = of_region[Table::kScale] * 1.5;
    for (std::size_t j = 0; j < classes; ++j) out.gradient[i * classes + j] *= scale;
  }
  return out;
}

// ---- The engine ----

void run(const Case& c, Inputs& in, const Runner& runner, const Result& expected) {
  ClassProblem problem;
  problem.images.count = c.images();
  problem.images.pixels = c.pixels();
  problem.images.chunk_pixels = kBlock;
  problem.images.chunks = (c.pixels() + kBlock - 1) / kBlock;
  problem.classes = static_cast<int>(c.classes());
  problem.label_kind = c.kind;
  problem.one_region = c.one_region;
  problem.logits = in.logits.view();
  problem.labels.target = in.target.view();
  if (c.masked) problem.labels.mask = in.mask.view();
  problem.labels.has_ignore_index = c.ignoring;
  problem.labels.ignore_index = 255;
  const std::int64_t rows = c.regions() * c.classes(), chunks = problem.chunks_of_region();
  GuardedArray<double> partial(static_cast<std::size_t>(rows * chunks * (kSums + 1)));
  problem.partial_sums = partial.data();
  const std::int64_t all = problem.images.count * problem.images.chunks;
  std::int64_t bytes = 0;
  with_kernels(runner, c.loss, c.kind,
               [&](const auto&, const auto& kernels) { bytes = kernels.scratch_bytes(problem); });
  GuardedArray<unsigned char> scratch(static_cast<std::size_t>(bytes));
  with_kernels(runner, c.loss, c.kind, [&](const auto& loss, const auto& kernels) {
    for (std::int64_t chunk = 0; chunk < all; ++chunk) {
      kernels.reduce(loss, problem, chunk, chunk + 1, scratch.data());
    }
  });
  check(partial.intact(), "writes partial sums only", runner.isa);

  const bool in_double = c.logits == DType::kFloat64;
  const double tolerance = in_double ? 1e-11 : 3e-5;
  std::vector<double> table(static_cast<std::size_t>(rows) * Table::kColumns, 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      for (int s = 0; s <= kSums; ++s) {
        table[static_cast<std::size_t>(r * Table::kColumns + s)] +=
            partial[static_cast<std::size_t>((r * chunks + chunk) * (kSums + 1) + s)];
      }
    }
    check(table[static_cast<std::size_t>(r * Table::kColumns + Table::kInvalid)] == 0, "no label is invalid",
          runner.isa);
    for (int s = 0; s < kSums; ++s) {
      const double sum = table[static_cast<std::size_t>(r * Table::kColumns + s)];
      const double wanted = expected.sums[static_cast<std::size_t>(r * kSums + s)];
      check(std::fabs(sum - wanted) <= tolerance * (1 + wanted), "sum of a class", runner.isa, s, sum, wanted);
    }
  }
  for (std::int64_t r = 0; r < c.regions(); ++r) {
    double* of_region = table.data() + r * c.classes() * Table::kColumns;
    const double value = settle_group(c.loss, of_region, c.classes(), c.reduction, c.regions());
    const double wanted = expected.values[static_cast<std::size_t>(r)];
    check(std::fabs(value - wanted) <= tolerance * (1 + std::fabs(wanted)), "value", runner.isa, value, wanted);
  }

  TestTensor gradient(c.shape, c.logits_layout, c.logits),
      upstream({{1, 1, 1, 1, 1}}, Layout::kContiguous, in_double ? DType::kFloat64 : DType::kFloat32);
  upstream.set(0, 1.5);
  problem.table = table.data();
  problem.upstream = upstream.view();
  problem.gradient = gradient.view();
  with_kernels(runner, c.loss, c.kind,
               [&](const auto& loss, const auto& kernels) { kernels.map(loss, problem, 0, all, scratch.data()); });
  check(scratch.intact(), "works in its scratch memory only", runner.isa);
  check(gradient.intact(), "writes the gradient only", runner.isa);
  double largest = 0;
  for (const double g : expected.gradient) largest = std::max(largest, std::fabs(g));
  const double half = c.logits == DType::kFloat16 ? 1e-3 : c.logits == DType::kBFloat16 ? 8e-3 : 0;
  for (std::int64_t i = 0; i < c.images() * c.pixels(); ++i) {
    for (std::int64_t k = 0; k < c.classes(); ++k) {
      const double found = gradient.get((i / c.pixels() * c.classes() + k) * c.pixels() + i % c.pixels());
      const double wanted = expected.gradient[static_cast<std::size_t>(i * c.classes() + k)];
      const double error = 10 * tolerance * largest + half * std::fabs(wanted) + (half > 0 ? 6e-8 : 0);
      check(std::fabs(found - wanted) <= error, "gradient", runner.isa, c.kind, i, k, found, wanted);
    }
  }
}

// Each way to be no class is counted, once an image map, and an ignored or masked pixel is none of them.
void test_invalid_labels(const Runner& runner) {
  const Shape shape{{1, 3, 1, 1, 70}}, map_shape{{1, 1, 1, 1, 70}};
  const auto count = [&](ClassLabels kind, DType dtype, std::vector<std::array<double, 3>> labels, double ignore) {
    Loss loss;
    ClassProblem problem;
    TestTensor logits(shape, Layout::kContiguous, DType::kFloat32);
    for (std::int64_t i = 0; i < logits.numel(); ++i) logits.set(i, 0);
    TestTensor target(kind == ClassLabels::kIndexMap ? map_shape : shape, Layout::kContiguous, dtype);
    for (std::int64_t i = 0; i < 70; ++i) {
      const std::array<double, 3> label = i < static_cast<std::int64_t>(labels.size())
                                              ? labels[static_cast<std::size_t>(i)]
                                              : std::array<double, 3>{1, 0, 0};
      for (std::int64_t k = 0; k < target.numel() / 70; ++k) target.set(k * 70 + i, label[static_cast<std::size_t>(k)]);
    }
    problem.images = {1, 70, kBlock, 1, 1};
    problem.classes = 3;
    problem.label_kind = kind;
    problem.logits = logits.view();
    problem.labels.target = target.view();
    problem.labels.has_ignore_index = true;
    problem.labels.ignore_index = static_cast<std::int64_t>(ignore);
    std::vector<double> partial(3 * (kSums + 1));
    problem.partial_sums = partial.data();
    with_kernels(runner, loss, kind, [&](const auto& of_kind, const auto& kernels) {
      std::vector<unsigned char> scratch(static_cast<std::size_t>(kernels.scratch_bytes(problem)));
      kernels.reduce(of_kind, problem, 0, 1, scratch.data());
    });
    return partial[kSums] + partial[2 * kSums + 1] + partial[3 * kSums + 2];
  };
  for (const DType dtype : {DType::kInt8, DType::kInt64, DType::kFloat16, DType::kFloat32, DType::kFloat64}) {
    check(count(ClassLabels::kIndexMap, dtype, {{2}, {3}, {-1}, {100}, {7}, {0}}, 7) == 3, "classes beyond",
          runner.isa);
  }
  check(count(ClassLabels::kIndexMap, DType::kFloat32, {{0.5}, {1e30}, {std::nan("")}}, 7) == 3, "no whole numbers",
        runner.isa);
  check(count(ClassLabels::kOneHot, DType::kByte, {{0, 0, 0}, {1, 0, 1}, {7, 0, 0}, {0, 0, 1}}, 7) == 2, "not one 1",
        runner.isa);
  check(count(ClassLabels::kSoft, DType::kFloat32, {{0.5, 0.4, 0.05}, {0.3, 0.3, 0.4}, {-2, 0, 0}, {0.995, 0, 0}},
              -2) == 1,
        "sums that are not 1", runner.isa);
  check(count(ClassLabels::kSoft, DType::kFloat64, {{1.5, -0.5, 0}}, 7) == 2, "outside 0 to 1", runner.isa);
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  Sequence sequence(5);
  const std::vector<Runner> all = runners();
  std::vector<double> class_weights(rarepixel::kMaxClasses);
  for (double& weight : class_weights) weight = 0.5 + sequence.unit();
  for (int i = 0; i < 150; ++i) {
    const Case c = make_case(sequence, class_weights);
    Inputs in(c, sequence);
    const Result expected = naive(c, in);
    for (const Runner& runner : all) run(c, in, runner, expected);
  }
  for (const Runner& runner : all) test_invalid_labels(runner);
  return check.result();
}
