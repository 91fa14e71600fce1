// Counting by score (../score_counts.h) on the CPU, and exact areas under curves of what fits in memory.
#include "../score_counts.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "launch.h"
#include "score_kernels.h"

namespace rarepixel::cpu {
namespace {

// Each thread has counts of its own, and more threads than this would only wait for the memory.
constexpr std::int64_t kMostThreads = 8;

// Calls run(first pixel, last pixel) for parts of a range, from at most kMostThreads threads; parts begin with a block.
template <class Run>
void parallel_over_pixels(std::int64_t first, std::int64_t last, std::int64_t step, const Run& run) {
  constexpr std::int64_t kBlocksWorthAThread = 64;
  const std::int64_t stride = kBlock * step, blocks = (last - first + stride - 1) / stride;
  if (blocks <= 0) return;
  const std::int64_t grain = std::max(kBlocksWorthAThread, (blocks + kMostThreads - 1) / kMostThreads);
  torch::stable::parallel_for(0, blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    run(first + begin * stride, std::min(last, first + end * stride));
  });
}

ScoreCountsProblem problem_of(const Tensor& scores, const Tensor& target, const std::optional<Tensor>& mask,
                              std::optional<std::int64_t> ignore_index) {
  STD_TORCH_CHECK(scores.numel() == target.numel() && (!mask.has_value() || mask->numel() == scores.numel()),
                  "rarepixel: expected scores, target and mask of one shape");
  ScoreCountsProblem problem;
  problem.scores = view_of(scores);
  problem.labels = labels_of(target, mask, ignore_index);
  return problem;
}

bool is_half(const Tensor& scores) {
  return scores.scalar_type() == ScalarType::Half || scores.scalar_type() == ScalarType::BFloat16;
}

// ---- Counts of nodes ----

class LocalCounts {
 public:
  explicit LocalCounts(std::int64_t nodes)
      : nodes_(nodes),
        bytes_(std::make_unique<std::uint8_t[]>(nodes)),
        words_(std::make_unique<std::uint32_t[]>(2 * nodes)) {}

  LocalTables tables() const { return {bytes_.get(), words_.get(), words_.get() + nodes_}; }

  void move_to(std::int64_t* counts) {  // [nodes, 2]
    const LocalTables from = tables();
    for (std::int64_t i = 0; i < nodes_; ++i) {
      counts[2 * i] += from.positives[i];
      counts[2 * i + 1] += (std::int64_t(from.carries[i]) << 8) + from.negatives[i];
    }
    std::fill_n(bytes_.get(), nodes_, std::uint8_t(0));
    std::fill_n(words_.get(), 2 * nodes_, 0u);
  }

 private:
  const std::int64_t nodes_;
  const std::unique_ptr<std::uint8_t[]> bytes_;
  const std::unique_ptr<std::uint32_t[]> words_;
};

// `count` is a kernel of ScoreKernels. Returns how many labels are invalid.
template <class Count>
std::int64_t count_nodes(const ScoreCountsProblem& problem, std::int64_t first, std::int64_t last, std::int64_t step,
                         const Count& count, std::int64_t* counts) {
  std::mutex adding;
  std::atomic<std::int64_t> invalid = 0;
  parallel_over_pixels(first, last, step, [&](std::int64_t begin, std::int64_t end) {
    LocalCounts local(problem.nodes.count);
    for (std::int64_t at = begin; at < end; at += kMostAtOnce) {
      invalid += count(problem, {at, std::min(end, at + kMostAtOnce), step}, local.tables());
      const std::lock_guard guard(adding);
      local.move_to(counts);
    }
  });
  return invalid.load();
}

// How many positives and negatives of pixels first ... last - 1 each node has, [nodes, 2], and how many labels are
// neither; with `step`, of every step-th block of pixels. Of scores of 16 bits a node is what their bits are as a number.
std::tuple<Tensor, std::int64_t> score_counts(const Tensor& scores,               // [*]
                                              const Tensor& target,               // the same shape, as are all below
                                              const std::optional<Tensor>& mask,  // bool or uint8
                                              std::optional<std::int64_t> ignore_index,
                                              const Tensor& roots,   // [kRoots], int64; empty for 16 bits
                                              const Tensor& blocks,  // [*], int64
                                              const Tensor& links,   // [nodes], int32
                                              std::int64_t first, std::int64_t last, std::int64_t step) {
  ScoreCountsProblem problem = problem_of(scores, target, mask, ignore_index);
  const bool half = is_half(scores);
  STD_TORCH_CHECK(half || roots.numel() == kRoots, "rarepixel: roots: expected ", kRoots, ", got ", roots.numel());
  STD_TORCH_CHECK(step >= 1 && first >= 0 && last <= scores.numel(), "rarepixel: expected a range of the pixels");
  problem.nodes.count = half ? kRoots : links.numel();
  if (!half) {
    problem.nodes.roots = static_cast<const Division*>(roots.const_data_ptr());
    problem.nodes.blocks = static_cast<const Division*>(blocks.const_data_ptr());
    problem.nodes.links = static_cast<const std::int32_t*>(links.const_data_ptr());
  }
  Tensor counts = empty_on_device_of(scores, {problem.nodes.count, 2}, ScalarType::Long);
  auto* const to = static_cast<std::int64_t*>(counts.mutable_data_ptr());
  std::fill_n(to, 2 * problem.nodes.count, std::int64_t(0));
  const auto run = [&](const auto& count) { return count_nodes(problem, first, last, step, count, to); };
  if (half) return {counts, run(kernels_for_this_machine<ScoreKernels<float>>().count_halves)};
  if (scores.scalar_type() == ScalarType::Double) {
    return {counts, run(kernels_for_this_machine<ScoreKernels<double>>().count)};
  }
  return {counts, run(kernels_for_this_machine<ScoreKernels<float>>().count)};
}

// ---- Exact areas ----

struct Areas {
  double average_precision = 0, roc_auc = 0, trapezoid = 0;
};

// Adds up the areas, threshold by threshold from the highest one on. Only the scores of positives are thresholds that
// count: between them recall stays, and there is no area.
class AreaSum {
 public:
  AreaSum(double positives, double negatives) : positives_(positives), negatives_(negatives) {}

  // A score of `here` positives and `equal` negatives; `above` negatives have a higher one.
  void add(double here, double equal, double above) {
    const double before = found_ + above > 0 ? found_ / (found_ + above) : 1;
    found_ += here;
    const double precision = found_ / (found_ + above + equal);
    precisions_ += here * precision;
    trapezoids_ += here * (precision + before) / 2;
    pairs_ += here * ((negatives_ - above - equal) + equal / 2);
  }

  Areas areas() const {
    constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
    if (positives_ == 0) return {kUndefined, kUndefined, kUndefined};
    const double roc_auc = negatives_ > 0 ? static_cast<double>(pairs_ / positives_ / negatives_) : kUndefined;
    return {static_cast<double>(precisions_ / positives_), roc_auc, static_cast<double>(trapezoids_ / positives_)};
  }

 private:
  const double positives_, negatives_;
  double found_ = 0;
  long double precisions_ = 0, trapezoids_ = 0, pairs_ = 0;
};

// By digits, the lowest first. Digits that are the same everywhere cost one look.
template <class K>
void radix_sort(std::vector<K>& keys) {
  constexpr int kDigitBits = 11, kDigits = (8 * sizeof(K) + kDigitBits - 1) / kDigitBits;
  constexpr K kMask = (K(1) << kDigitBits) - 1;
  if (keys.size() < 1 << kDigitBits) return std::sort(keys.begin(), keys.end());
  std::vector<std::size_t> starts(kDigits << kDigitBits);
  for (const K key : keys) {
    for (int d = 0; d < kDigits; ++d) ++starts[(d << kDigitBits) + (key >> d * kDigitBits & kMask)];
  }
  std::vector<K> sorted(keys.size());
  for (int d = 0; d < kDigits; ++d) {
    std::size_t* const start = starts.data() + (d << kDigitBits);
    if (start[keys[0] >> d * kDigitBits & kMask] == keys.size()) continue;
    std::size_t sum = 0;
    for (K digit = 0; digit <= kMask; ++digit) sum += std::exchange(start[digit], sum);
    for (const K key : keys) sorted[start[key >> d * kDigitBits & kMask]++] = key;
    keys.swap(sorted);
  }
}

// Of pixels that fit in memory. Where positives are rare they alone are sorted, and every negative is ranked among them;
// else the negatives are sorted, too.
template <class Real>
class Ranking {
 public:
  explicit Ranking(const ScoreCountsProblem& problem)
      : problem_(problem),
        pixels_(count_of(problem.scores)),
        kernels_(kernels_for_this_machine<ScoreKernels<Real>>()) {}

  Areas run() {
    count();
    keys_ = collect(true);
    radix_sort(keys_);
    nans_ = count_nans(keys_);
    const std::int64_t negatives = counts_.counted - counts_.positives;
    AreaSum sum(static_cast<double>(counts_.positives), static_cast<double>(negatives));
    if (counts_.positives > negatives / kRare) add_sorted(sum);
    else add_ranked(sum);
    return sum.areas();
  }

  const PixelCounts& pixels() const { return counts_; }
  std::int64_t nans() const { return nans_; }

 private:
  using Keys = std::vector<Key<Real>>;
  static constexpr std::int64_t kChunk = 64 * kBlock;
  static constexpr std::int64_t kRare = 8;  // negatives a positive

  static std::int64_t count_of(const TensorView& view) {
    std::int64_t count = 1;
    for (int d = 0; d < view.rank; ++d) count *= view.size[d];
    return count;
  }

  static std::int64_t count_nans(const Keys& sorted) {
    return sorted.end() - std::lower_bound(sorted.begin(), sorted.end(), kHighestKey<Real>);
  }

  PixelRange chunk(std::int64_t c) const { return {c * kChunk, std::min(pixels_, (c + 1) * kChunk), 1}; }

  void count() {
    chunks_.resize((pixels_ + kChunk - 1) / kChunk);
    torch::stable::parallel_for(0, std::ssize(chunks_), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) chunks_[c] = kernels_.count_pixels(problem_.labels, chunk(c));
    });
    for (const PixelCounts& of_chunk : chunks_) {
      counts_.counted += of_chunk.counted;
      counts_.positives += of_chunk.positives;
      counts_.invalid += of_chunk.invalid;
    }
  }

  Keys collect(bool positives) const {
    std::vector<std::int64_t> starts(chunks_.size() + 1);
    for (std::size_t c = 0; c < chunks_.size(); ++c) {
      starts[c + 1] = starts[c] + (positives ? chunks_[c].positives : chunks_[c].counted - chunks_[c].positives);
    }
    Keys keys(starts.back());
    torch::stable::parallel_for(0, std::ssize(chunks_), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        if (starts[c] < starts[c + 1]) kernels_.collect(problem_, chunk(c), positives, keys.data() + starts[c]);
      }
    });
    return keys;
  }

  // Calls run(key, how many have it) for each different key, the highest first.
  template <class Run>
  static void for_each_key(const Keys& sorted, const Run& run) {
    for (auto end = sorted.rbegin(); end != sorted.rend();) {
      const auto begin = end;
      while (end != sorted.rend() && *end == *begin) ++end;
      run(*begin, end - begin);
    }
  }

  void add_sorted(AreaSum& sum) {
    Keys negatives = collect(false);
    radix_sort(negatives);
    nans_ += count_nans(negatives);
    auto at = negatives.rbegin();
    for_each_key(keys_, [&](Key<Real> key, std::int64_t here) {
      while (at != negatives.rend() && *at > key) ++at;
      const std::int64_t above = at - negatives.rbegin();
      while (at != negatives.rend() && *at == key) ++at;
      sum.add(static_cast<double>(here), static_cast<double>(at - negatives.rbegin() - above),
              static_cast<double>(above));
    });
  }

  void add_ranked(AreaSum& sum) {
    std::vector<std::int64_t> multiplicities;
    for_each_key(keys_, [&](Key<Real>, std::int64_t here) { multiplicities.push_back(here); });
    keys_.erase(std::unique(keys_.begin(), keys_.end()), keys_.end());
    make_table();
    count_gaps();
    std::uint64_t above = gaps_.back();
    for (std::size_t i = keys_.size(); i-- > 0;) {
      const std::uint64_t equal = gaps_[2 * i + 1];
      sum.add(static_cast<double>(multiplicities[keys_.size() - 1 - i]), static_cast<double>(equal),
              static_cast<double>(above));
      above += equal + gaps_[2 * i];
    }
  }

  // Buckets of a root: about as many as it has keys, so that few are in each.
  void make_table() {
    constexpr int kRestBits = kKeyBits<Real> - kRootBits;
    roots_.resize(kRoots);
    std::size_t at = 0;
    for (std::int64_t root = 0; root < kRoots; ++root) {
      const std::size_t begin = at;
      while (at < keys_.size() && root_of<Real>(keys_[at]) == root) ++at;
      int bits = 0;
      while (bits < std::min(kRestBits, 24) && (std::size_t(1) << bits) < at - begin) ++bits;
      const Key<Real> first_part = static_cast<Key<Real>>(root) << bits;
      roots_[root].shift = kRestBits - bits;
      roots_[root].base = static_cast<std::uint32_t>(buckets_.size()) - static_cast<std::uint32_t>(first_part);
      std::size_t key = begin;
      for (Key<Real> part = 0; part < Key<Real>(1) << bits; ++part) {
        buckets_.push_back(static_cast<std::uint32_t>(key));
        while (key < at && keys_[key] >> roots_[root].shift == first_part + part) ++key;
      }
    }
    buckets_.push_back(static_cast<std::uint32_t>(keys_.size()));
  }

  void count_gaps() {
    constexpr std::size_t kLargestOfAThread = std::size_t(1) << 18;
    const RankTable<Real> table{keys_.data(), static_cast<std::uint32_t>(keys_.size()), roots_.data(), buckets_.data()};
    gaps_.resize(2 * keys_.size() + 1);
    std::mutex adding;
    std::atomic<std::int64_t> nans = 0;
    const bool shared = gaps_.size() > kLargestOfAThread;
    parallel_over_pixels(0, pixels_, 1, [&](std::int64_t begin, std::int64_t end) {
      if (shared) {
        nans += kernels_.count_gaps(problem_, table, {begin, end, 1}, gaps_.data(), true);
        return;
      }
      std::vector<std::uint64_t> local(gaps_.size());
      nans += kernels_.count_gaps(problem_, table, {begin, end, 1}, local.data(), false);
      const std::lock_guard guard(adding);
      for (std::size_t i = 0; i < local.size(); ++i) gaps_[i] += local[i];
    });
    nans_ += nans.load();
  }

  const ScoreCountsProblem problem_;
  const std::int64_t pixels_;
  const ScoreKernels<Real> kernels_;
  std::vector<PixelCounts> chunks_;
  PixelCounts counts_;
  std::int64_t nans_ = 0;
  Keys keys_;  // of positives
  std::vector<Division> roots_;
  std::vector<std::uint32_t> buckets_;
  std::vector<std::uint64_t> gaps_;  // negatives below key 0, at it, between it and key 1, at key 1, ...
};

// Average precision, area under the ROC curve and trapezoidal area under the P-R curve, [3]; positives and negatives;
// labels that are neither; scores that are NaN.
std::tuple<Tensor, std::int64_t, std::int64_t, std::int64_t, std::int64_t> score_areas(
    const Tensor& scores,               // [*]
    const Tensor& target,               // the same shape
    const std::optional<Tensor>& mask,  // the same shape, bool or uint8
    std::optional<std::int64_t> ignore_index) {
  const ScoreCountsProblem problem = problem_of(scores, target, mask, ignore_index);
  STD_TORCH_CHECK(scores.numel() < std::int64_t(1) << 32, "rarepixel: expected less than 2^32 pixels at once, got ",
                  scores.numel());
  Tensor areas = empty_on_device_of(scores, {3}, ScalarType::Double);
  auto* const to = static_cast<double*>(areas.mutable_data_ptr());
  const auto run = [&]<class Real>(Real) {
    Ranking<Real> ranking(problem);
    const Areas found = ranking.run();
    to[0] = found.average_precision, to[1] = found.roc_auc, to[2] = found.trapezoid;
    const PixelCounts& pixels = ranking.pixels();
    return std::tuple(areas, pixels.positives, pixels.counted - pixels.positives, pixels.invalid, ranking.nans());
  };
  return scores.scalar_type() == ScalarType::Double ? run(0.0) : run(0.0f);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) {
  m.impl("score_counts_cpu", TORCH_BOX(&score_counts));
  m.impl("score_areas", TORCH_BOX(&score_areas));
}

}  // namespace rarepixel::cpu
