// Connected components, in every instruction set that this processor has, against a flood that starts at each first
// pixel.
#include "components.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "check.h"
#include "instruction_sets.h"
#include "reference.h"

namespace rarepixel::test {
namespace {

template <class T>
T pick(Sequence& sequence, const std::vector<T>& from) {
  return from[sequence.below(from.size())];
}

struct Labelled {
  std::vector<std::int32_t> labels;
  std::int64_t count = 0;
};

// How many of plane, row and column two neighbours may differ in.
int directions(Connectivity connectivity) { return 1 + static_cast<int>(connectivity); }

Labelled naive_label(const Extent& extent, Connectivity connectivity, const std::vector<std::uint8_t>& image) {
  Labelled found{std::vector<std::int32_t>(image.size())};
  std::vector<std::int64_t> front;
  const auto reach = [&](std::int64_t pixel) {
    if (image[pixel] == 0 || found.labels[pixel] != 0) return;
    found.labels[pixel] = static_cast<std::int32_t>(found.count);
    front.push_back(pixel);
  };
  for (std::int64_t first = 0; first < extent.pixels(); ++first) {
    if (image[first] == 0 || found.labels[first] != 0) continue;
    ++found.count;
    reach(first);
    while (!front.empty()) {
      const std::int64_t pixel = front.back(), line = pixel / extent.columns;
      front.pop_back();
      for (int step = 0; step < 27; ++step) {
        const int down = step / 9 - 1, south = step / 3 % 3 - 1, east = step % 3 - 1;
        const std::int64_t plane = line / extent.rows + down, row = line % extent.rows + south;
        const std::int64_t column = pixel % extent.columns + east;
        if (std::abs(down) + std::abs(south) + std::abs(east) > directions(connectivity)) continue;
        if (plane < 0 || plane >= extent.planes || row < 0 || row >= extent.rows) continue;
        if (column < 0 || column >= extent.columns) continue;
        reach((plane * extent.rows + row) * extent.columns + column);
      }
    }
  }
  return found;
}

// Memory of exactly the size that is needed, so that AddressSanitizer sees what is read or written beyond it, and full
// of rubbish.
Labelled label(const ComponentsKernels& kernels, const Extent& extent, Connectivity connectivity,
               const std::vector<std::uint8_t>& image) {
  ComponentsProblem problem;
  problem.extent = extent;
  problem.connectivity = connectivity;
  problem.image = image.data();
  Labelled found{std::vector<std::int32_t>(image.size(), 0x5a5a5a5a)};
  problem.labels = found.labels.data();
  std::vector<std::uint64_t> bits(problem.strips() * problem.rows_of_strip() * problem.words(), 0xa5a5a5a5a5a5a5a5u);
  std::vector<std::uint64_t> starts(problem.strips() * problem.words(), 0xa5a5a5a5a5a5a5a5u);
  std::vector<std::int32_t> first_runs(problem.strips() + 1, -1);
  problem.bits = bits.data();
  problem.starts = starts.data();
  problem.first_runs = first_runs.data();
  const std::int64_t count = kernels.find_runs(problem);
  constexpr int kBefore = ComponentsProblem::kMarginBefore, kBehind = ComponentsProblem::kMarginBehind;
  std::vector<std::int32_t> runs(kBefore + count + kBehind, -7);
  problem.runs = runs.data() + kBefore;
  found.count = kernels.label(problem);
  return found;
}

void test_any(Sequence& sequence) {
  const bool is_volume = sequence.below(2) == 0;
  Extent extent;
  if (is_volume) extent.planes = 1 + sequence.below(6);
  extent.rows = 1 + sequence.below(is_volume ? 9 : 24);
  extent.columns =
      pick<std::int64_t>(sequence, {1 + std::int64_t(sequence.below(180)), 1, 7, 8, 9, 63, 64, 65, 128, 129});
  auto connectivity =
      pick<Connectivity>(sequence, {Connectivity::kSides, Connectivity::kEdges, Connectivity::kCorners});
  if (!is_volume && connectivity == Connectivity::kEdges) connectivity = Connectivity::kCorners;
  const double density = pick<double>(sequence, {0, 0.05, 0.15, 0.3, 0.4, 0.5, 0.6, 0.8, 1});
  std::vector<std::uint8_t> image(extent.pixels());
  for (std::uint8_t& pixel : image) {
    pixel = sequence.unit() < density ? pick<std::uint8_t>(sequence, {1, 2, 128, 255}) : 0;
  }
  const Labelled expected = naive_label(extent, connectivity, image);
  for (const auto& set : of_every_instruction_set<ComponentsKernels>()) {
    const Labelled found = label(set.kernels, extent, connectivity, image);
    const auto [got, other] = std::mismatch(found.labels.begin(), found.labels.end(), expected.labels.begin());
    check(got == found.labels.end(), "labels: isa, connectivity, planes, rows, columns, first wrong pixel", set.isa,
          connectivity, extent.planes, extent.rows, extent.columns, got - found.labels.begin());
    check(found.count == expected.count, "count: isa, got, expected", set.isa, found.count, expected.count);
  }
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  Sequence sequence(2008);
  for (int i = 0; i < 2000; ++i) test_any(sequence);
  return check.result();
}
