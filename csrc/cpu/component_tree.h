// Of one image of scores, how many lesions are hit and how many false alarms there are at every threshold.
//
// Pixels come in by falling score, those of one score together; what touches is one component (union-find, as for a
// component tree: Najman and Couprie, "Building the component tree in quasi-linear time", IEEE TIP 2006). What changes
// the two numbers is written down.
//
// Most pixels change nothing: those whose higher neighbours all hang together around them begin no component and join
// none. They are found in a pass along the rows, are made children of one of these neighbours, and need not be sorted.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "../threshold.h"

namespace rarepixel::cpu {

// Sizes of an image, and where its pixels lie within a frame of pixels that never come in. One column of the frame is
// between two rows, and one row between two planes: each serves both.
struct Grid {
  std::int64_t planes, rows, columns;

  bool is_volume() const { return planes > 1; }
  std::int64_t pixels() const { return planes * rows * columns; }
  std::int64_t row_stride() const { return columns + 1; }
  std::int64_t plane_stride() const { return (rows + 1) * row_stride(); }
  std::int64_t first() const { return (is_volume() ? plane_stride() : 0) + row_stride() + 1; }
  std::int64_t framed() const { return 2 * first() + (planes - 1) * plane_stride() + rows * row_stride(); }

  std::int64_t at(std::int64_t plane, std::int64_t row) const {
    return first() + plane * plane_stride() + row * row_stride();
  }
  std::int64_t pixel_of(std::int64_t at) const {
    const std::int64_t from_first = at - first(), in_plane = from_first % plane_stride();
    return (from_first / plane_stride() * rows + in_plane / row_stride()) * columns + in_plane % row_stride();
  }
};

// The pixels around one, and which of them touch each other: bits 9 * plane + 3 * row + column of a cube of 27. Without
// planes only its middle nine are there.
class Neighbourhood {
 public:
  static constexpr int kCells = 27, kMiddle = 13, kBelow = 16;

  explicit Neighbourhood(std::int64_t connectivity)
      : connectivity_(connectivity), neighbours_(around(1u << kMiddle) & ~(1u << kMiddle)) {
    for (unsigned nine = 0; nine < in_plane_.size(); ++nine) in_plane_[nine] = one_of_each(nine << 9);
  }

  // Of the components that are there around the middle: the first neighbour of each that has one.
  unsigned one_of_each(unsigned present) const {
    unsigned chosen = 0;
    while ((present & neighbours_) != 0) {
      unsigned component = lowest(present & neighbours_), wider = 0;
      chosen |= component;
      while ((wider = around(component) & present) != component) component = wider;
      present &= ~component;
    }
    return chosen;
  }

  // The same in an image without planes.
  unsigned one_of_each_in_plane(unsigned present) const { return in_plane_[present >> 9]; }

 private:
  static unsigned lowest(unsigned bits) { return bits & -bits; }

  static constexpr unsigned kCube = (1u << kCells) - 1;
  static constexpr unsigned kFirstColumn = 0b001'001'001u * (1u | 1u << 9 | 1u << 18);
  static constexpr unsigned kFirstRow = 0b000'000'111u * (1u | 1u << 9 | 1u << 18);

  static unsigned along_rows(unsigned cells) {
    return cells | (cells << 1 & ~kFirstColumn) | (cells >> 1 & ~(kFirstColumn << 2));
  }
  static unsigned along_columns(unsigned cells) {
    return cells | (cells << 3 & ~kFirstRow) | (cells >> 3 & ~(kFirstRow << 6));
  }
  static unsigned along_planes(unsigned cells) { return cells | (cells << 9 & kCube) | cells >> 9; }

  // Pixels and all that they touch.
  unsigned around(unsigned cells) const {
    const unsigned x = along_rows(cells), y = along_columns(cells), xy = along_columns(x);
    switch (connectivity_) {
      case 4: return x | y;
      case 6: return x | y | along_planes(cells);
      case 8: return xy;
      case 18: return xy | along_planes(x | y);
      default: return along_planes(xy);
    }
  }

  const std::int64_t connectivity_;
  unsigned neighbours_;
  std::array<unsigned, 512> in_plane_{};
};

// The truth of one image. A zone is where a predicted pixel is a hit of a lesion; zones may overlap.
struct Zones {
  const std::int32_t* map;     // [pixels]: 0; lesion l (from 1); or -s, all lesions of set s (from 1)
  const std::int64_t* needed;  // [lesions]: how many pixels of its zone make a lesion hit
  std::int64_t lesions;
  const std::int64_t* set_offsets;  // [sets + 1]: set s holds set_members[set_offsets[s - 1] ... set_offsets[s] - 1]
  const std::int32_t* set_members;  // lesions, from 1
};

// The state from a threshold on down to the next.
template <class Real>
struct Step {
  Real threshold;
  std::int64_t hits, false_alarms;
};

// A pixel that has to come in: its place within the frame, and its key, the higher the lower its score.
template <class Real, class Index>
struct RankedPixel {
  Key<Real> key;
  Index at;
};

// Pixels by rising key, those of equal keys in the order they came: counts all digits at once, then moves by each.
template <class Real, class Index>
class PixelSort {
 public:
  using Pixel = RankedPixel<Real, Index>;

  void reserve(std::int64_t pixels) { pixels_ = std::make_unique_for_overwrite<Pixel[]>(pixels); }

  void push(Key<Real> key, Index at) { pixels_[size_++] = {key, at}; }

  const Pixel* sorted() {
    std::vector<std::int64_t> counts(kDigits << kBits);
    for (std::int64_t i = 0; i < size_; ++i) {
      for (int digit = 0; digit < kDigits; ++digit) ++counts[digit << kBits | digit_of(pixels_[i].key, digit)];
    }
    auto moved = std::make_unique_for_overwrite<Pixel[]>(size_);
    for (int digit = 0; digit < kDigits; ++digit) {
      std::int64_t* places = counts.data() + (digit << kBits);
      if (size_ == 0 || places[digit_of(pixels_[0].key, digit)] == size_) continue;
      std::int64_t before = 0;
      for (int value = 0; value < 1 << kBits; ++value) before += std::exchange(places[value], before);
      for (std::int64_t i = 0; i < size_; ++i) moved[places[digit_of(pixels_[i].key, digit)]++] = pixels_[i];
      std::swap(pixels_, moved);
    }
    return pixels_.get();
  }

  std::int64_t size() const { return size_; }

 private:
  static constexpr int kBits = 11;
  static constexpr int kDigits = (kKeyBits<Real> + kBits - 1) / kBits;

  static unsigned digit_of(Key<Real> key, int digit) {
    return static_cast<unsigned>(key >> (kBits * digit)) & ((1u << kBits) - 1);
  }

  std::unique_ptr<Pixel[]> pixels_;
  std::int64_t size_ = 0;
};

template <class Real, class Index>
class ComponentTree {
 public:
  ComponentTree(const Grid& grid, const Neighbourhood& neighbours, std::int64_t min_size)
      : grid_(grid),
        neighbours_(neighbours),
        min_size_(min_size),
        scores_(grid.framed(), std::numeric_limits<Real>::quiet_NaN()),
        around_(std::make_unique_for_overwrite<std::uint32_t[]>(grid.framed())),
        parent_(std::make_unique_for_overwrite<Index[]>(grid.framed())),
        next_(min_size > 1 ? std::make_unique_for_overwrite<Index[]>(grid.framed()) : nullptr) {
    for (int cell = 0; cell < Neighbourhood::kCells; ++cell) {
      const std::int64_t plane = cell / 9 - 1, row = cell / 3 % 3 - 1, column = cell % 3 - 1;
      to_[cell] = static_cast<Index>(plane * grid.plane_stride() + row * grid.row_stride() + column);
    }
  }

  // Returns how many scores that count are NaN; if there are any, there are no steps.
  std::int64_t run(const Real* scores, const std::uint8_t* mask, const Zones& zones, std::vector<Step<Real>>& steps) {
    const std::int64_t nans = frame(scores, mask);
    if (nans > 0) return nans;
    zones_ = zones;
    missing_.assign(zones.needed, zones.needed + zones.lesions);
    order_.reserve(grid_.pixels());
    for (std::int64_t line = 0; line < grid_.planes * grid_.rows; ++line) {
      if (grid_.is_volume()) look_around<0, Neighbourhood::kCells>(line);
      else look_around<9, 18>(line);
      sort_out(line);
    }
    sweep(order_.sorted(), steps);
    return 0;
  }

 private:
  using Pixel = RankedPixel<Real, Index>;

  std::int64_t begin_of(std::int64_t line) const { return grid_.at(line / grid_.rows, line % grid_.rows); }

  // Copies the scores that count into the frame. All else is NaN, with which comparisons are false.
  std::int64_t frame(const Real* scores, const std::uint8_t* mask) {
    std::int64_t nans = 0, pixel = 0;
    for (std::int64_t line = 0; line < grid_.planes * grid_.rows; ++line) {
      Real* to = scores_.data() + begin_of(line);
      for (std::int64_t column = 0; column < grid_.columns; ++column, ++pixel) {
        if (mask != nullptr && mask[pixel] == 0) continue;
        to[column] = scores[pixel];
        nans += scores[pixel] != scores[pixel];
      }
    }
    return nans;
  }

  // Which pixels around those of a row come in before them: of equal scores, those that lie before.
  template <int kFirst, int kLast>
  void look_around(std::int64_t line) {
    const Real* scores = scores_.data() + begin_of(line);
    std::uint32_t* around = around_.get() + begin_of(line);
    for (std::int64_t column = 0; column < grid_.columns; ++column) {
      const Real score = scores[column];
      std::uint32_t present = 0;
      RAREPIXEL_UNROLL
      for (int cell = kFirst; cell < kLast; ++cell) {
        const Real other = scores[column + to_[cell]];
        present |= std::uint32_t(cell < Neighbourhood::kMiddle ? other >= score : other > score) << cell;
      }
      around[column] = present;
    }
  }

  // Finds the pixels of a row that change nothing. The others are to be sorted, and keep whom they join.
  void sort_out(std::int64_t line) {
    const std::int32_t* zones = zones_.map + line * grid_.columns;
    for (std::int64_t column = 0; column < grid_.columns; ++column) {
      const auto at = static_cast<Index>(begin_of(line) + column);
      const Real score = scores_[at];
      if (score != score) continue;
      const std::uint32_t joined =
          grid_.is_volume() ? neighbours_.one_of_each(around_[at]) : neighbours_.one_of_each_in_plane(around_[at]);
      if (std::has_single_bit(joined) && zones[column] == 0 && min_size_ == 1) {
        const int cell = std::countr_zero(joined);
        const Index parent = at + to_[cell];
        // A shorter way to where the parent leads, if it has been looked at.
        parent_[at] = cell < Neighbourhood::kMiddle && parent_[parent] >= 0 ? parent_[parent] : parent;
      } else {
        around_[at] = zones[column] == 0 ? joined : joined | kInZone;
        parent_[at] = kNoParent;
        order_.push(~key_of(score), at);
      }
    }
  }

  void sweep(const Pixel* pixels, std::vector<Step<Real>>& steps) {
    std::int64_t hits = 0, false_alarms = 0;
    for (std::int64_t i = 0; i < order_.size(); ++i) {
      constexpr std::int64_t kAhead = 12;
      if (i + kAhead < order_.size()) prefetch(pixels[i + kAhead].at);
      add(pixels[i].at);
      if (i + 1 < order_.size() && pixels[i + 1].key == pixels[i].key) continue;
      if (hits == hits_ && false_alarms == false_alarms_) continue;
      hits = hits_;
      false_alarms = false_alarms_;
      steps.push_back({real_of<Real>(~pixels[i].key), hits, false_alarms});
    }
  }

  void prefetch(Index at) const {
    __builtin_prefetch(around_.get() + at);
    for (const Index row : {at - to_[Neighbourhood::kBelow], at, at + to_[Neighbourhood::kBelow]}) {
      __builtin_prefetch(parent_.get() + row);
    }
  }

  void add(Index at) {
    const bool touches = (around_[at] & kInZone) != 0;
    parent_[at] = record(1, touches);
    if (next_) next_[at] = at;
    false_alarms_ += is_false_alarm(1, touches);
    if (touches && min_size_ == 1) credit(at);
    Index root = at;
    for (std::uint32_t joined = around_[at] & ~kInZone; joined != 0; joined &= joined - 1) {
      root = unite(root, find(at + to_[std::countr_zero(joined)]));
    }
  }

  Index find(Index at) {
    while (true) {
      const Index parent = parent_[at];
      if (parent < 0) return at;
      const Index grandparent = parent_[parent];
      if (grandparent < 0) return parent;
      parent_[at] = grandparent;
      at = grandparent;
    }
  }

  Index unite(Index a, Index b) {
    if (a == b) return a;
    if (size_of(a) < size_of(b)) std::swap(a, b);
    const std::int64_t size_a = size_of(a), size_b = size_of(b), size = size_a + size_b;
    const bool touches_a = touches(a), touches_b = touches(b), touches_either = touches_a || touches_b;
    false_alarms_ += is_false_alarm(size, touches_either);
    false_alarms_ -= is_false_alarm(size_a, touches_a) + is_false_alarm(size_b, touches_b);
    if (next_) {
      if (size >= min_size_ && size_a < min_size_ && touches_a) credit_all(a);
      if (size >= min_size_ && size_b < min_size_ && touches_b) credit_all(b);
      std::swap(next_[a], next_[b]);  // one circle of two
    }
    parent_[a] = record(size, touches_either);
    parent_[b] = a;
    return a;
  }

  // Of a component that was too small until now.
  void credit_all(Index root) {
    Index at = root;
    do {
      if ((around_[at] & kInZone) != 0) credit(at);
      at = next_[at];
    } while (at != root);
  }

  void credit(Index at) {
    const std::int32_t zone = zones_.map[grid_.pixel_of(at)];
    if (zone > 0) return credit_lesion(zone);
    for (std::int64_t i = zones_.set_offsets[-zone - 1]; i < zones_.set_offsets[-zone]; ++i) {
      credit_lesion(zones_.set_members[i]);
    }
  }

  void credit_lesion(std::int32_t lesion) { hits_ += --missing_[lesion - 1] == 0; }

  std::int64_t is_false_alarm(std::int64_t size, bool touches) const { return size >= min_size_ && !touches; }

  // What a root has in place of a parent: a negative number. Pixels that were not sorted are not in the size, which
  // then serves to keep trees low.
  static Index record(std::int64_t size, bool touches) { return ~static_cast<Index>(2 * size + touches); }
  std::int64_t size_of(Index root) const { return static_cast<std::int64_t>(~parent_[root]) >> 1; }
  bool touches(Index root) const { return (~parent_[root] & 1) != 0; }

  static constexpr Index kNoParent = -1;
  static constexpr std::uint32_t kInZone = std::uint32_t(1) << Neighbourhood::kCells;

  const Grid grid_;
  const Neighbourhood& neighbours_;
  const std::int64_t min_size_;
  std::array<Index, Neighbourhood::kCells> to_;  // each pixel around one
  std::vector<Real> scores_;                     // [framed]
  std::unique_ptr<std::uint32_t[]> around_;      // [framed]: who comes in before; then whom to join, and kInZone
  std::unique_ptr<Index[]> parent_;              // [framed]
  std::unique_ptr<Index[]> next_;                // [framed]: circles of the pixels of components, for min_size
  std::vector<std::int64_t> missing_;            // [lesions]: pixels until it is hit
  PixelSort<Real, Index> order_;
  Zones zones_{};
  std::int64_t hits_ = 0, false_alarms_ = 0;
};

}  // namespace rarepixel::cpu
