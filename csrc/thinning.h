// Guo-Hall thinning on bits (Guo and Hall, "Parallel thinning with two-subiteration algorithms", CACM 1989).
//
// With the eight neighbours of a pixel, counted from the east against the clock (x1 = E, x2 = NE, x3 = N ... x8 = SE),
// a subiteration deletes a set pixel if
//     G1   one run of background around it:  sum over i of [not x(2i-1) and (x(2i) or x(2i+1))] = 1
//     G2   2 <= min(n1, n2) <= 3,  n1 = sum of [x(2k-1) or x(2k)],  n2 = sum of [x(2k) or x(2k+1)]
//     G3   first subiteration:   not ((x2 or x3 or not x8) and x1)
//          second subiteration:  not ((x6 or x7 or not x4) and x5)
// all pixels at once, from what stood before. Both alternate until neither deletes anything. This is MATLAB's
// bwmorph(..., 'thin', Inf).
//
// A word holds neighbouring pixels of a row, one bit each, so a handful of logic operations decides for all of them.
#pragma once

#include "compiler.h"

namespace rarepixel {

// A row's word with its neighbours to either side: bit i of `west` is the pixel west of bit i.
template <class Word>
struct ThinningRow {
  Word west, here, east;
};

// Which bits of `row.here` a subiteration deletes.
template <class Word>
RAREPIXEL_INLINE Word deletable(const ThinningRow<Word>& north, const ThinningRow<Word>& row,
                                const ThinningRow<Word>& south, bool second) {
  const Word x1 = row.east, x2 = north.east, x3 = north.here, x4 = north.west;
  const Word x5 = row.west, x6 = south.west, x7 = south.here, x8 = south.east;

  // Ends of runs, of which there has to be exactly one.
  const Word b1 = ~x1 & (x2 | x3), b2 = ~x3 & (x4 | x5), b3 = ~x5 & (x6 | x7), b4 = ~x7 & (x8 | x1);
  const Word one = (b1 ^ b2 ^ b3 ^ b4) & ~((b1 & b2) | (b3 & b4));

  // Pairs of neighbours, taken in both ways: at least two of the four both times, and not all four both times.
  const Word p1 = x1 | x2, p2 = x3 | x4, p3 = x5 | x6, p4 = x7 | x8;
  const Word q1 = x2 | x3, q2 = x4 | x5, q3 = x6 | x7, q4 = x8 | x1;
  const Word two_of_p = (p1 & p2) | (p3 & p4) | ((p1 | p2) & (p3 | p4));
  const Word two_of_q = (q1 & q2) | (q3 & q4) | ((q1 | q2) & (q3 | q4));
  const Word all = p1 & p2 & p3 & p4 & q1 & q2 & q3 & q4;

  const Word keeps = second ? (x6 | x7 | ~x4) & x5 : (x2 | x3 | ~x8) & x1;
  return row.here & one & two_of_p & two_of_q & ~all & ~keeps;
}

}  // namespace rarepixel
