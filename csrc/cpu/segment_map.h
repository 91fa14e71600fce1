// Cuts a skeleton into segments and gives each its range (Yan, Yang and Cheng, IEEE TBME 2018).
// Plain serial code: it runs once an annotation.
//
// Scans run column by column, as the original's do: "first" is first in that order. Pixels are numbered row by row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace rarepixel::cpu {

struct SegmentOptions {
  std::int64_t min_length = 4, max_length = 8;
  double margin = 2;
  // Reproduce the published program: ids that two pieces may share, uneven pieces, later ranges over earlier skeletons.
  bool original = false;
};

class SegmentMapper {
 public:
  using Path = std::vector<std::int64_t>;  // pixels, neighbour by neighbour

  SegmentMapper(std::int64_t rows, std::int64_t columns, const SegmentOptions& options)
      : rows_(rows), columns_(columns), options_(options) {}

  // False if the original would fail: a closed loop long enough to be cut has no end to begin at.
  bool map(const std::uint8_t* skeleton, const float* thickness, const std::uint8_t* field_of_view, std::int32_t* ids) {
    skeleton_.assign(skeleton, skeleton + rows_ * columns_);
    remove_junctions();
    std::vector<Path> paths = components();
    std::erase_if(paths, [&](const Path& path) { return std::ssize(path) < options_.min_length; });
    if (options_.original) {
      if (!cut_like_the_original(paths)) return false;
      paint_like_the_original(thickness, field_of_view, ids);
    } else {
      for (const Path& path : paths) cut_evenly(path);
      paint_nearest(thickness, field_of_view, ids);
    }
    return true;
  }

  // Pixels of each segment, in order of ids.
  const std::vector<Path>& segments() const { return segments_; }

 private:
  std::int64_t row_of(std::int64_t pixel) const { return pixel / columns_; }
  std::int64_t column_of(std::int64_t pixel) const { return pixel % columns_; }
  bool comes_first(std::int64_t a, std::int64_t b) const {
    return column_of(a) != column_of(b) ? column_of(a) < column_of(b) : a < b;
  }

  template <class Run>
  void for_each_by_column(const Run& run) const {
    for (std::int64_t column = 0; column < columns_; ++column) {
      for (std::int64_t row = 0; row < rows_; ++row) run(row * columns_ + column);
    }
  }

  // Neighbours of a pixel within the image, column by column.
  template <class Run>
  void for_each_neighbour(std::int64_t pixel, const Run& run) const {
    const std::int64_t row = row_of(pixel), column = column_of(pixel);
    for (std::int64_t c = std::max<std::int64_t>(column - 1, 0); c <= std::min(column + 1, columns_ - 1); ++c) {
      for (std::int64_t r = std::max<std::int64_t>(row - 1, 0); r <= std::min(row + 1, rows_ - 1); ++r) {
        if (r != row || c != column) run(r * columns_ + c);
      }
    }
  }

  int neighbours(std::int64_t pixel) const {
    int count = 0;
    for_each_neighbour(pixel, [&](std::int64_t other) { count += skeleton_[other] != 0; });
    return count;
  }

  // One after the other: what is removed no longer counts for the next. All are left with at most two neighbours.
  void remove_junctions() {
    for_each_by_column([&](std::int64_t pixel) {
      if (skeleton_[pixel] != 0 && neighbours(pixel) > 2) skeleton_[pixel] = 0;
    });
  }

  // Paths and loops, in order of their first pixels. A path is walked from that of its ends which comes first, a loop
  // from its first pixel to the first of its neighbours.
  std::vector<Path> components() {
    std::vector<Path> paths;
    std::vector<std::uint8_t> seen(skeleton_.size(), 0);
    for_each_by_column([&](std::int64_t first) {
      if (skeleton_[first] == 0 || seen[first]) return;
      Path members{first};
      seen[first] = 1;
      for (std::size_t i = 0; i < members.size(); ++i) {
        for_each_neighbour(members[i], [&](std::int64_t other) {
          if (skeleton_[other] != 0 && !seen[other]) {
            seen[other] = 1;
            members.push_back(other);
          }
        });
      }
      paths.push_back(walk(members, first));
    });
    return paths;
  }

  Path walk(const Path& members, std::int64_t first) {
    std::int64_t at = -1;
    for (const std::int64_t pixel : members) {
      if (neighbours(pixel) <= 1 && (at < 0 || comes_first(pixel, at))) at = pixel;
    }
    if (at < 0) at = first;
    Path path{at};
    std::vector<std::int64_t>& ahead = ahead_;
    while (path.size() < members.size()) {
      ahead.clear();
      for_each_neighbour(at, [&](std::int64_t other) {
        const bool before = path.size() > 1 && other == path[path.size() - 2];
        if (skeleton_[other] != 0 && !before && other != path.front()) ahead.push_back(other);
      });
      at = ahead.front();
      path.push_back(at);
    }
    return path;
  }

  bool is_loop(const Path& path) const { return path.size() > 2 && neighbours(path.front()) == 2; }

  // Into as few pieces of nearly equal length as are no longer than max_length.
  void cut_evenly(const Path& path) {
    const std::int64_t length = std::ssize(path);
    const std::int64_t pieces = (length + options_.max_length - 1) / options_.max_length;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      segments_.emplace_back(path.begin() + piece * length / pieces, path.begin() + (piece + 1) * length / pieces);
    }
  }

  // A component of L pixels is cut into floor(L / max) pieces of round(L / pieces) pixels. All but the last get new
  // ids, counted from the largest id that is then in use elsewhere: if the component itself has the largest, the first
  // piece gets the id that the last one keeps.
  bool cut_like_the_original(const std::vector<Path>& paths) {
    segments_.assign(paths.begin(), paths.end());
    const std::int64_t components = std::ssize(paths);
    for (std::int64_t i = 0; i < components; ++i) {
      const Path& path = paths[i];
      const std::int64_t length = std::ssize(path), pieces = length / options_.max_length;
      if (length <= options_.max_length || pieces < 2) continue;
      if (is_loop(path)) return false;
      std::int64_t largest = std::ssize(segments_);
      if (largest == i + 1) largest = i;
      const std::int64_t piece_length = std::llround(static_cast<double>(length) / static_cast<double>(pieces));
      Path keeping;  // the pixels that keep the component's id
      for (std::int64_t piece = 0; piece < pieces; ++piece) {
        const bool last = piece == pieces - 1;
        const auto from = path.begin() + piece * piece_length;
        const std::int64_t id = last ? i : largest + piece;  // counted from 0
        if (id >= std::ssize(segments_)) segments_.resize(id + 1);
        Path& segment = id == i ? keeping : segments_[id];
        segment.insert(segment.end(), from, last ? path.end() : from + piece_length);
      }
      segments_[i] = std::move(keeping);
    }
    return true;
  }

  // Ranges in order of ids, each over all that came before it; distances are floored, and reach no further than the
  // window that thickness was looked for in.
  void paint_like_the_original(const float* thickness, const std::uint8_t* field_of_view, std::int32_t* ids) const {
    constexpr std::int64_t kReach = 10;
    std::fill(ids, ids + rows_ * columns_, 0);
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      const std::int32_t id = static_cast<std::int32_t>(s + 1);
      for (const std::int64_t pixel : segments_[s]) {
        if (field_of_view[pixel] == 0) continue;
        const double radius = static_cast<double>(thickness[pixel]) + options_.margin;
        for_each_within(pixel, kReach, [&](std::int64_t other, std::int64_t squared) {
          if (field_of_view[other] != 0 && std::floor(std::sqrt(static_cast<double>(squared))) <= radius)
            ids[other] = id;
        });
      }
      for (const std::int64_t pixel : segments_[s]) {
        if (field_of_view[pixel] != 0) ids[pixel] = -id;
      }
    }
  }

  // Every pixel within thickness + margin of a segment belongs to the nearest skeleton pixel that reaches it.
  void paint_nearest(const float* thickness, const std::uint8_t* field_of_view, std::int32_t* ids) const {
    std::fill(ids, ids + rows_ * columns_, 0);
    std::vector<std::int32_t> nearest(static_cast<std::size_t>(rows_ * columns_), INT32_MAX);
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      const std::int32_t id = static_cast<std::int32_t>(s + 1);
      for (const std::int64_t pixel : segments_[s]) {
        const double radius = static_cast<double>(thickness[pixel]) + options_.margin;
        const double squared_radius = radius * radius * (1 + 1e-6);  // thickness is a rounded root
        for_each_within(pixel, static_cast<std::int64_t>(radius), [&](std::int64_t other, std::int64_t squared) {
          // Ids ascend: of two that are as near the lower one was here before.
          if (squared < nearest[other] && static_cast<double>(squared) <= squared_radius) {
            nearest[other] = static_cast<std::int32_t>(squared);
            ids[other] = id;
          }
        });
      }
    }
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      for (const std::int64_t pixel : segments_[s]) ids[pixel] = -static_cast<std::int32_t>(s + 1);
    }
    for (std::int64_t pixel = 0; pixel < rows_ * columns_; ++pixel) {
      if (field_of_view[pixel] == 0) ids[pixel] = 0;
    }
  }

  // The square around a pixel, as far as it lies in the image: run(pixel, squared distance).
  template <class Run>
  void for_each_within(std::int64_t pixel, std::int64_t reach, const Run& run) const {
    const std::int64_t row = row_of(pixel), column = column_of(pixel);
    for (std::int64_t r = std::max<std::int64_t>(row - reach, 0); r <= std::min(row + reach, rows_ - 1); ++r) {
      for (std::int64_t c = std::max<std::int64_t>(column - reach, 0); c <= std::min(column + reach, columns_ - 1);
           ++c) {
        run(r * columns_ + c, (r - row) * (r - row) + (c - column) * (c - column));
      }
    }
  }

  std::int64_t rows_, columns_;
  SegmentOptions options_;
  std::vector<std::uint8_t> skeleton_;
  std::vector<Path> segments_;
  std::vector<std::int64_t> ahead_;
};

}  // namespace rarepixel::cpu
