// The SIMD half of thinning (../thinning.h): an image of packed bits, thinned in place.
#pragma once

#include "../thinning.h"
#include "blocks.h"

namespace rarepixel::RAREPIXEL_ISA {

// What a subiteration deletes from a row, into `deleted`; returns whether it is anything. The rows have a word of zeros
// on either side.
inline bool deletable_of_row(const std::uint64_t* north, const std::uint64_t* row, const std::uint64_t* south,
                             std::int64_t words, bool second, std::uint64_t* deleted) {
  const auto with_neighbours = [](const std::uint64_t* at) __attribute__((always_inline)) {
    return ThinningRow<std::uint64_t>{at[0] << 1 | at[-1] >> 63, at[0], at[0] >> 1 | at[1] << 63};
  };
  std::uint64_t any = 0;
  for (std::int64_t w = 0; w < words; ++w) {
    deleted[w] = deletable(with_neighbours(north + w), with_neighbours(row + w), with_neighbours(south + w), second);
    any |= deleted[w];
  }
  return any != 0;
}

// Eight bits as eight bytes of 0 or 1, the lowest first.
RAREPIXEL_INLINE std::uint64_t bytes_from_bits(std::uint64_t eight) {
  constexpr std::uint64_t kEach = 0x0101010101010101u;
  const std::uint64_t one_of_each = (eight * kEach) & 0x8040201008040201u;
  return (one_of_each + 0x7f * kEach) >> 7 & kEach;  // a byte that is not 0 carries into its highest bit
}

inline void unpack_row(const std::uint64_t* words, std::int64_t columns, std::uint8_t* pixels) {
  std::int64_t done = 0;
  for (; done + 8 <= columns; done += 8) {
    const std::uint64_t bytes = bytes_from_bits(words[done / kWord] >> (done % kWord) & 0xff);
    memcpy(pixels + done, &bytes, 8);
  }
  for (; done < columns; ++done) pixels[done] = words[done / kWord] >> (done % kWord) & 1;
}

// A row is looked at again only if it or a neighbour has changed since the same subiteration last looked at it.
inline void thin_bits(const BitImage& image) {
  const std::int64_t words = image.words();
  for (std::int64_t r = 0; r < image.rows; ++r) image.look[r + 1] = 3;
  bool changed = true;
  while (changed) {
    changed = false;
    for (int second = 0; second < 2; ++second) {
      const std::uint8_t mine = static_cast<std::uint8_t>(1 << second);
      // A row's deletions wait until the row below it has seen it as it was.
      std::uint64_t* waiting = nullptr;
      std::uint64_t* free_line = image.lines;
      bool any = false;
      for (std::int64_t r = 0; r <= image.rows; ++r) {
        std::uint64_t* deleted = nullptr;
        if (image.look[r + 1] & mine) {
          image.look[r + 1] &= static_cast<std::uint8_t>(~mine);
          if (deletable_of_row(image.row(r - 1), image.row(r), image.row(r + 1), words, second != 0, free_line)) {
            deleted = free_line;
          }
        }
        if (waiting != nullptr) {
          std::uint64_t* const above = image.row(r - 1);
          for (std::int64_t w = 0; w < words; ++w) above[w] &= ~waiting[w];
          image.changed[r - 1] = any = true;
        }
        waiting = deleted;
        if (deleted != nullptr) free_line = deleted == image.lines ? image.lines + words : image.lines;
      }
      if (!any) continue;
      changed = true;
      for (std::int64_t r = 0; r < image.rows; ++r) {
        if (!image.changed[r]) continue;
        image.changed[r] = false;
        // Rows outside the image are never looked at.
        for (std::int64_t near = r > 0 ? r - 1 : 0; near <= r + 1 && near < image.rows; ++near) {
          image.look[near + 1] = 3;
        }
      }
    }
  }
}

inline void thin_image(const ThinningProblem& problem) {
  const BitImage& image = problem.bits;
  for (std::int64_t r = 0; r < image.rows; ++r) {
    pack_row(problem.image + r * image.columns, image.columns, image.row(r));
  }
  thin_bits(image);
  for (std::int64_t r = 0; r < image.rows; ++r) {
    unpack_row(image.row(r), image.columns, problem.skeleton + r * image.columns);
  }
}

}  // namespace rarepixel::RAREPIXEL_ISA
