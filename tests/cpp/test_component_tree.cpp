// Lesions hit and false alarms at every threshold, in every type of scores and of indices, against components that are
// flooded anew at each threshold.
#include "cpu/component_tree.h"

#include <cmath>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "check.h"
#include "reference.h"

namespace rarepixel::test {
namespace {

using namespace rarepixel::cpu;

struct Scene {
  Grid grid;
  std::int64_t connectivity, min_size;
  std::vector<double> scores;
  std::vector<std::uint8_t> mask;
  std::vector<std::int32_t> map;
  std::vector<std::int64_t> needed{1, 2, 3};
  std::vector<std::int64_t> set_offsets{0, 2, 3};
  std::vector<std::int32_t> set_members{1, 3, 2};

  Zones zones() const { return {map.data(), needed.data(), 3, set_offsets.data(), set_members.data()}; }
};

std::int64_t from_1_to(Sequence& sequence, std::uint64_t most) {
  return 1 + static_cast<std::int64_t>(sequence.below(most));
}

Scene random_scene(Sequence& sequence) {
  constexpr std::int64_t kConnectivities[] = {4, 8, 6, 18, 26};
  const bool is_volume = sequence.below(2) == 0;
  Scene scene{{is_volume ? from_1_to(sequence, 3) : 1, from_1_to(sequence, 5), from_1_to(sequence, 6)},
              kConnectivities[is_volume ? 2 + sequence.below(3) : sequence.below(2)],
              from_1_to(sequence, 4),
              {},
              {},
              {}};
  const std::uint64_t values = 1 + sequence.below(12);
  for (std::int64_t pixel = 0; pixel < scene.grid.pixels(); ++pixel) {
    scene.scores.push_back(static_cast<double>(sequence.below(values)) - 2);
    scene.mask.push_back(sequence.below(5) != 0);
    const auto zone = static_cast<std::int32_t>(sequence.below(15)) - 2;
    scene.map.push_back(zone <= 3 ? zone : 0);
  }
  return scene;
}

class Flood {
 public:
  Flood(const Scene& scene, double threshold) : scene_(scene), missing_(scene.needed) {
    for (std::int64_t pixel = 0; pixel < scene.grid.pixels(); ++pixel) {
      left_.push_back(scene.mask[pixel] != 0 && scene.scores[pixel] >= threshold);
    }
    for (std::int64_t pixel = 0; pixel < scene.grid.pixels(); ++pixel) {
      if (left_[pixel]) count(component_of(pixel));
    }
  }

  std::int64_t false_alarms = 0;
  std::int64_t hits() const {
    return std::count_if(missing_.begin(), missing_.end(), [](std::int64_t missing) { return missing <= 0; });
  }

 private:
  std::vector<std::int64_t> component_of(std::int64_t first) {
    std::vector<std::int64_t> component{first};
    left_[first] = false;
    for (std::size_t i = 0; i < component.size(); ++i) {
      for (std::int64_t pixel = 0; pixel < scene_.grid.pixels(); ++pixel) {
        if (!left_[pixel] || !touch(component[i], pixel)) continue;
        left_[pixel] = false;
        component.push_back(pixel);
      }
    }
    return component;
  }

  bool touch(std::int64_t a, std::int64_t b) const {
    const Grid& grid = scene_.grid;
    const std::int64_t columns = grid.columns, plane = grid.rows * columns;
    const std::int64_t apart[] = {std::abs(a / plane - b / plane), std::abs(a % plane / columns - b % plane / columns),
                                  std::abs(a % columns - b % columns)};
    const std::int64_t most = scene_.connectivity == 26                               ? 3
                              : scene_.connectivity == 18 || scene_.connectivity == 8 ? 2
                                                                                      : 1;
    return std::max({apart[0], apart[1], apart[2]}) == 1 && apart[0] + apart[1] + apart[2] <= most;
  }

  void count(const std::vector<std::int64_t>& component) {
    if (std::ssize(component) < scene_.min_size) return;
    bool touches = false;
    for (const std::int64_t pixel : component) {
      const std::int32_t zone = scene_.map[pixel];
      touches |= zone != 0;
      if (zone > 0) --missing_[zone - 1];
      for (std::int64_t i = zone < 0 ? scene_.set_offsets[-zone - 1] : 0; zone < 0 && i < scene_.set_offsets[-zone];
           ++i) {
        --missing_[scene_.set_members[i] - 1];
      }
    }
    false_alarms += !touches;
  }

  const Scene& scene_;
  std::vector<bool> left_;
  std::vector<std::int64_t> missing_;
};

template <class Real, class Index>
void test_scene(const Scene& scene) {
  const std::vector<Real> scores(scene.scores.begin(), scene.scores.end());
  const Neighbourhood neighbours(scene.connectivity);
  std::vector<Step<Real>> steps;
  ComponentTree<Real, Index> tree(scene.grid, neighbours, scene.min_size);
  check(tree.run(scores.data(), scene.mask.data(), scene.zones(), steps) == 0, "no NaN");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Step<Real> before = i > 0 ? steps[i - 1] : Step<Real>{11, 0, 0};
    check(steps[i].threshold < before.threshold, "one step a score", i, steps[i].threshold, before.threshold);
    check(steps[i].hits != before.hits || steps[i].false_alarms != before.false_alarms, "a change", i);
  }
  for (double threshold = 10; threshold >= -3; threshold -= 0.5) {
    const Flood expected(scene, threshold);
    Step<Real> found{0, 0, 0};
    for (const Step<Real>& step : steps) {
      if (step.threshold >= threshold) found = step;
    }
    check(found.hits == expected.hits(), "hits", threshold, found.hits, expected.hits());
    check(found.false_alarms == expected.false_alarms, "false alarms", threshold, found.false_alarms,
          expected.false_alarms);
  }
}

void test_nan() {
  Scene scene{{1, 1, 3}, 8, 1, {0, 0, 0}, {1, 1, 0}, {1, 0, 0}};
  std::vector<float> scores{NAN, 1, NAN};
  const Neighbourhood neighbours(8);
  std::vector<Step<float>> steps;
  ComponentTree<float, std::int32_t> tree(scene.grid, neighbours, 1);
  check(tree.run(scores.data(), scene.mask.data(), scene.zones(), steps) == 1, "one NaN counts");
  check(steps.empty(), "no steps");
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  Sequence sequence(1950);
  for (int i = 0; i < 500; ++i) {
    const Scene scene = random_scene(sequence);
    test_scene<float, std::int32_t>(scene);
    test_scene<double, std::int32_t>(scene);
    test_scene<float, std::int64_t>(scene);
    test_scene<double, std::int64_t>(scene);
  }
  test_nan();
  return check.result();
}
