// Connected components: what both engines know of an image or volume.
//
// Components are numbered by their first pixels in row-major order, so each is found under the smallest number that it
// could have: every pixel, or run of pixels, points to an earlier one or to itself, and a root is where its component
// begins.
#pragma once

#include <cstdint>

#include "compiler.h"

namespace rarepixel {

// Which pixels are neighbours, by how many there are of one: those that share a side (4, in volumes 6), a side or an
// edge (18), or as much as a corner (8, 26).
enum class Connectivity { kSides, kEdges, kCorners };

RAREPIXEL_INLINE Connectivity connectivity_of(std::int64_t neighbours) {
  if (neighbours == 18) return Connectivity::kEdges;
  return neighbours == 8 || neighbours == 26 ? Connectivity::kCorners : Connectivity::kSides;
}

// Of an image [rows, columns], or of a volume [planes, rows, columns].
struct Extent {
  std::int64_t planes = 1, rows = 0, columns = 0;

  RAREPIXEL_INLINE std::int64_t pixels() const { return planes * rows * columns; }
};

// A row's word of pixels, one bit each: bit i of `west` is the pixel west of bit i.
template <class Word>
struct PixelsOfRow {
  Word here, west;
};

// Where runs of two neighbouring rows meet, at their sides or as much as at a corner: each pair of runs once.
//
// A pixel at column x has the corners x and x + 1, and a run with its corners is an interval that shares none with
// another run of the row. Where two intervals overlap, the overlap begins where one of them does. So bit x is set if
// one of the rows has a run that starts there and the other a run with that corner; if it lacks the pixel, its run ends
// west of it. Of runs that have to meet at their sides the intervals are their pixels.
template <class Word>
RAREPIXEL_INLINE Word meetings(const PixelsOfRow<Word>& one, const PixelsOfRow<Word>& other, bool at_corners) {
  const Word start = (one.here & ~one.west) | (other.here & ~other.west);
  const Word both = at_corners ? (one.here | one.west) & (other.here | other.west) : one.here & other.here;
  return start & both;
}

// ---- On the CPU (cpu/components.h) ----

// Rows are looked at in strips. Where pixels that meet at a corner are neighbours, a strip is two rows: neighbouring
// columns of it then are always connected, whichever of their pixels are set, and both rows together are runs as one
// row would be. That halves the rows, and of noise leaves a third of the runs. Of 4 or 6 neighbours it is one row.
struct ComponentsProblem {
  Extent extent;
  Connectivity connectivity = Connectivity::kCorners;
  const std::uint8_t* image = nullptr;  // [planes, rows, columns], not 0: set
  std::int32_t* labels = nullptr;       // [planes, rows, columns]

  std::uint64_t* bits = nullptr;       // [planes, strips_of_plane() * rows_of_strip(), words()]: pixels
  std::uint64_t* starts = nullptr;     // [strips(), words()]: where runs of a strip start
  std::int32_t* first_runs = nullptr;  // [strips() + 1]: the number of a strip's first run
  // [kMarginBefore + runs + kMarginBehind], from the first run on: to which run one points, and then its label.
  std::int32_t* runs = nullptr;
  static constexpr int kMarginBefore = 1, kMarginBehind = 8;  // are read, not used

  RAREPIXEL_INLINE std::int64_t rows_of_strip() const { return connectivity == Connectivity::kSides ? 1 : 2; }
  RAREPIXEL_INLINE std::int64_t strips_of_plane() const {
    return (extent.rows + rows_of_strip() - 1) / rows_of_strip();
  }
  RAREPIXEL_INLINE std::int64_t strips() const { return extent.planes * strips_of_plane(); }
  RAREPIXEL_INLINE std::int64_t words() const { return (extent.columns + 63) / 64; }
};

struct ComponentsKernels {
  // Fills bits, starts and first_runs; returns how many runs there are.
  std::int64_t (*find_runs)(const ComponentsProblem& problem);
  // Fills runs and labels; returns how many components there are.
  std::int64_t (*label)(const ComponentsProblem& problem);
};

}  // namespace rarepixel
