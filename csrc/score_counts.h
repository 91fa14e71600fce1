// Counting positives and negatives by score: how the line of scores is divided into nodes, for both engines.
//
// A score becomes an integer key of the same order (threshold.h). The keys are divided by their 16 highest bits into
// kRoots roots; a node, a root or a part of one, is either counted in or divided by its next bits into a block of equal
// nodes. So every node is an interval of keys that agree in their leading bits. Which nodes are divided is decided in
// Python (metrics/_score_nodes.py); here keys find their node. Scores of 16 bits need none of it: each of the 65 536
// is a node.
#pragma once

#include "problem.h"
#include "threshold.h"

namespace rarepixel {

inline constexpr int kRootBits = 16;
inline constexpr std::int64_t kRoots = std::int64_t(1) << kRootBits;

// How the keys of a node find its parts, modulo 2^32: part number base + (key >> shift), from the first node on.
struct Division {
  static constexpr std::uint32_t kDeeper = 64;  // added to the shift if a part is divided itself
  std::uint32_t base = 0, shift = 0;

  template <class K>
  RAREPIXEL_INLINE std::uint32_t node_of(K key) const {
    return base + static_cast<std::uint32_t>(key >> (shift & (8 * sizeof(K) - 1)));
  }
  RAREPIXEL_INLINE bool goes_deeper() const { return shift >= kDeeper; }
};
static_assert(sizeof(Division) == sizeof(std::int64_t), "a tensor of int64 holds them");

struct ScoreNodes {
  const Division* roots = nullptr;      // [kRoots]: an undivided root is its own only part
  const Division* blocks = nullptr;     // of the nodes that are divided further
  const std::int32_t* links = nullptr;  // [count]: which of the blocks divides a node, or -1
  std::int64_t count = 0;
};

template <class Real>
RAREPIXEL_INLINE std::uint32_t root_of(Key<Real> key) {
  return static_cast<std::uint32_t>(key >> (kKeyBits<Real> - kRootBits));
}

// Where a key is counted.
template <class Real>
RAREPIXEL_INLINE std::uint32_t node_of(const ScoreNodes& nodes, Key<Real> key) {
  Division division = nodes.roots[root_of<Real>(key)];
  std::uint32_t node = division.node_of(key);
  while (division.goes_deeper()) {
    const std::int32_t link = nodes.links[node];
    if (link < 0) break;
    division = nodes.blocks[link];
    node = division.node_of(key);
  }
  return node;
}

struct ScoreCountsProblem {
  TensorView scores;
  Labels labels;
  ScoreNodes nodes;
};

}  // namespace rarepixel
