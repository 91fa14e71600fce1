// The torch half of the search for thresholds (../threshold.h) on the CPU: narrows an interval pass by pass.
#include "../threshold.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <vector>

#include "launch.h"

namespace rarepixel::cpu {
namespace {

// The search for one region's threshold.
//
// The first interval comes from a sample of the region: its ends lie a few percent of the sample above and below the
// wanted rank, so that the first pass meets few pixels inside. If the threshold is not between them after all, the next
// interval is what lies beyond; the result never depends on the sample. The second pass usually finds few enough keys
// to collect them and is the last.
template <class Real>
class ThresholdSearch {
 public:
  ThresholdSearch(const RegionProblem& problem, std::int64_t region, double k, bool is_share)
      : problem_(problem),
        region_(region),
        k_(k),
        is_share_(is_share),
        kernels_(kernels_for_this_machine<ThresholdKernels<Real>>()) {}

  Threshold run() {
    guess();
    while (true) {
      ThresholdCounts counts;
      count(counts);
      const std::int64_t keep = number_to_keep(k_, is_share_, counts.negatives);
      if (keep == 0) return {0, 0, 0, std::numeric_limits<double>::infinity()};
      std::int64_t above = counts.above;
      if (keep <= above) {
        if (high_ == kInfinity) return {double(keep), 0, double(above), std::numeric_limits<double>::quiet_NaN()};
        narrow(key_of(high_) + 1, key_of(kInfinity));
        continue;
      }
      if (keep <= above + counts.at_high) return found(keep, above, counts.at_high, high_);
      above += counts.at_high;
      if (keep <= above + counts.inside) {
        if (collect_) return found_among(counts, keep, above);
        int bin = ThresholdCounts::kBins - 1;
        while (keep > above + counts.bins[bin]) above += counts.bins[bin--];
        const Key<Real> first = key_of(low_) + (Key<Real>(bin) << shift_);
        const Key<Real> last = std::min<Key<Real>>(first + ((Key<Real>(1) << shift_) - 1), key_of(high_));
        if (shift_ == 0) return found(keep, above, counts.bins[bin], real_of<Real>(first));
        narrow(first, last);
        collect_ = counts.bins[bin] <= ThresholdCounts::kBins;
        continue;
      }
      above += counts.inside;
      if (keep <= above + counts.at_low) return found(keep, above, counts.at_low, low_);
      narrow(key_of(-kInfinity), key_of(low_) - 1);
    }
  }

 private:
  static constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

  static Threshold found(std::int64_t keep, std::int64_t above, std::int64_t ties, Real threshold) {
    return {double(keep), double(above), double(ties), double(threshold)};
  }

  // The (keep - above)-th largest of the collected keys.
  static Threshold found_among(ThresholdCounts& counts, std::int64_t keep, std::int64_t above) {
    std::uint64_t* const end = counts.keys + counts.inside;
    std::uint64_t* const wanted = counts.keys + (keep - above - 1);
    std::nth_element(counts.keys, wanted, end, std::greater<std::uint64_t>());
    const std::uint64_t key = *wanted;
    above += std::count_if(counts.keys, end, [key](std::uint64_t other) { return other > key; });
    return found(keep, above, std::count(counts.keys, end, key), real_of<Real>(static_cast<Key<Real>>(key)));
  }

  void narrow(Key<Real> lowest, Key<Real> highest) {
    low_ = real_of<Real>(lowest);
    high_ = real_of<Real>(highest);
    collect_ = false;
    shift_ = 0;
    while ((highest - lowest) >> shift_ >= ThresholdCounts::kBins) ++shift_;
  }

  void guess() {
    narrow(key_of(-kInfinity), key_of(kInfinity));
    collect_ = problem_.regions.pixels <= ThresholdCounts::kBins;
    if (problem_.regions.pixels < 4 * kSampleSize) return;
    std::vector<double> sample(kSampleSize);
    const int size = kernels_.sample(problem_, region_, sample.data());
    if (size < kSampleSize / 4) return;
    // The wanted rank within the sample, counted from the largest on.
    const double negatives = double(problem_.regions.pixels) * size / kSampleSize;
    const double rank = std::min(is_share_ ? k_ : k_ / negatives, 1.0) * size;
    std::vector<Key<Real>> keys(size);
    std::transform(sample.begin(), sample.begin() + size, keys.begin(),
                   [](double x) { return key_of(static_cast<Real>(x)); });
    const auto from_top = std::greater<Key<Real>>();
    // The rank's standard deviation is at most the root of what lies on either side of it, if the sample were of single
    // pixels; neighbours are alike, so be generous.
    const double margin = std::min(8 + 6 * std::sqrt(std::min(rank, size - rank)), kSampleSize / 32.0);
    const int upper = static_cast<int>(rank - margin), lower = static_cast<int>(rank + margin);
    Key<Real> lowest = key_of(-kInfinity), highest = key_of(kInfinity);
    auto rest = keys.begin();
    if (rank >= margin) {
      std::nth_element(keys.begin(), keys.begin() + upper, keys.end(), from_top);
      highest = std::min(keys[upper], highest);
      rest += upper;
    }
    if (lower < size) {
      std::nth_element(rest, keys.begin() + lower, keys.end(), from_top);
      lowest = std::min(keys[lower], highest);
    }
    narrow(lowest, highest);
  }

  void count(ThresholdCounts& total) const {
    const ThresholdInterval interval{double(low_), double(high_), shift_, collect_};
    const std::int64_t first_chunk = region_ * problem_.regions.chunks;
    std::mutex adding;
    parallel_over_chunks(problem_.regions, first_chunk, first_chunk + problem_.regions.chunks, 1,
                         [&](std::int64_t first, std::int64_t last) {
                           ThresholdCounts counts;
                           kernels_.count(problem_, interval, first, last, counts);
                           const std::lock_guard lock(adding);
                           add(counts, interval.collect, total);
                         });
  }

  static void add(const ThresholdCounts& counts, bool collected, ThresholdCounts& total) {
    total.negatives += counts.negatives;
    total.above += counts.above;
    total.at_high += counts.at_high;
    total.at_low += counts.at_low;
    if (collected) std::copy(counts.keys, counts.keys + counts.inside, total.keys + total.inside);
    total.inside += counts.inside;
    if (collected || counts.inside == 0) return;
    for (int bin = 0; bin < ThresholdCounts::kBins; ++bin) total.bins[bin] += counts.bins[bin];
  }

  const RegionProblem& problem_;
  std::int64_t region_;
  double k_;
  bool is_share_;
  ThresholdKernels<Real> kernels_;
  Real low_ = 0, high_ = 0;
  int shift_ = 0;
  bool collect_ = false;
};

}  // namespace

void Engine::find_thresholds(const Inputs& inputs, const Tensor& k, bool is_share, double* found,
                             std::int64_t columns) {
  RegionProblem problem;
  set_inputs(problem, inputs, plan_regions(inputs.logits, inputs.balance, 1));
  const double wanted = *static_cast<const double*>(k.const_data_ptr());
  const auto search = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t region = first; region < last; ++region) {
      const Threshold threshold = problem.logits.dtype == DType::kFloat64
                                      ? ThresholdSearch<double>(problem, region, wanted, is_share).run()
                                      : ThresholdSearch<float>(problem, region, wanted, is_share).run();
      threshold.store(found + region * columns);
    }
  };
  // Small regions are shared out among the threads, large ones searched by all threads one after the other.
  if (problem.regions.chunks == 1) parallel_over_chunks(problem.regions, 0, problem.regions.count, 1, search);
  else search(0, problem.regions.count);
}

}  // namespace rarepixel::cpu
