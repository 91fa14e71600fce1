// Tensors in plain form, a block of pixels at a time: functions that know types, strides and labels, but no loss.
//
// Logits become float or double, labels two bits a pixel (positive, counts). What already lies in plain form is used
// where it lies; what does not is converted by readers.h, which is compiled once for all losses of an instruction set.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace rarepixel::RAREPIXEL_ISA {

inline constexpr int kWord = 64;  // pixels of one word of bits
inline constexpr int kBlockWords = kBlock / kWord;

RAREPIXEL_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
RAREPIXEL_INLINE int words_for(std::int64_t pixels) { return static_cast<int>((pixels + kWord - 1) / kWord); }

// Calls run(chunk, its region, first pixel, last pixel) for each chunk of the range; pixels are the region's.
template <class Run>
RAREPIXEL_INLINE void for_each_chunk(const Regions& regions, std::int64_t first, std::int64_t last, const Run& run) {
  for (std::int64_t chunk = first; chunk < last; ++chunk) {
    const std::int64_t begin = chunk % regions.chunks * regions.chunk_pixels;
    run(chunk, chunk / regions.chunks, begin, smaller(begin + regions.chunk_pixels, regions.pixels));
  }
}

// ---- Tensors ----

RAREPIXEL_INLINE bool is_straight(const TensorView& tensor, DType dtype) {
  return tensor.rank == 1 && tensor.stride[0] == 1 && tensor.dtype == dtype;
}

// Asks for a word of pixels of the block to come, where it lies in place: a block is read in bursts, and the memory
// would rest while the loss computes. Addresses beyond the tensor do no harm.
RAREPIXEL_INLINE void prefetch_word(const TensorView& tensor, std::int64_t first) {
  if (!is_straight(tensor, DType::kFloat32)) return;
  const float* from = static_cast<const float*>(tensor.data) + first;
#pragma GCC unroll 4
  for (int i = 0; i < kWord; i += 16) __builtin_prefetch(from + i);
}

// Asks for what lies a block behind word w of the block that begins at pixel `first`.
template <class Problem>
RAREPIXEL_INLINE void prefetch_next(const Problem& problem, std::int64_t first, int w) {
  prefetch_word(problem.logits, first + kBlock + w * kWord);
  prefetch_word(problem.labels.target, first + kBlock + w * kWord);
}

template <class Real>
inline constexpr DType kDTypeOf = sizeof(Real) == 4 ? DType::kFloat32 : DType::kFloat64;

template <class Real>
void convert_block(const TensorView& tensor, std::int64_t first, int count, Real* buffer);

// Pixels first .. first + count as Real, with zeros up to a whole word: in place if they lie so, else in `buffer`.
template <class Real>
RAREPIXEL_INLINE const Real* read_block(const TensorView& tensor, std::int64_t first, int count, Real* buffer) {
  if (is_straight(tensor, kDTypeOf<Real>) && count % kWord == 0) return static_cast<const Real*>(tensor.data) + first;
  convert_block(tensor, first, count, buffer);
  return buffer;
}

template <class Real>
void write_block(const TensorView& tensor, std::int64_t first, int count, const Real* from);

// Element `at` of a tensor whose type is Real.
template <class Real>
Real read_element(const TensorView& tensor, std::int64_t at);

// ---- Bytes as bits ----

// A bit for each byte of a row that is not 0, and zeros up to a whole word.
inline void pack_row(const std::uint8_t* pixels, std::int64_t columns, std::uint64_t* words) {
  std::int64_t done = 0;
  for (; done + kWord <= columns; done += kWord) *words++ = bits_from_bytes(pixels + done, 0xff);
  if (done == columns) return;
  alignas(64) std::uint8_t rest[kWord] = {};
  for (std::int64_t i = done; i < columns; ++i) rest[i - done] = pixels[i];
  *words = bits_from_bytes(rest, 0xff);
}

// ---- Labels as bits ----

struct LabelBits {
  std::uint64_t positive[kBlockWords];
  std::uint64_t counts[kBlockWords];
};

// Which pixels of a block's word w are there at all.
RAREPIXEL_INLINE std::uint64_t bits_within(int count, int w) {
  const int left = count - w * kWord;
  return left < kWord ? (std::uint64_t(1) << left) - 1 : ~std::uint64_t(0);
}

// Which pixels are positive and which count (zeros beyond count), `among` those that may, a bit a pixel, or null: all.
// Returns how many labels that count are invalid, if they are checked: a pass that nobody asks need not look.
template <bool kChecked>
std::int64_t read_labels(const Labels& labels, const LabelRule& rule, std::int64_t first, int count, LabelBits& bits,
                         const std::uint64_t* among = nullptr);

// Which pixels of a block are positive. Bits beyond count are rubbish.
void read_positives(const Labels& labels, const LabelRule& rule, std::int64_t first, int count,
                    std::uint64_t* positive);

// Labels that are numbers, up to a whole word beyond count; no bit is positive. Invalid are those outside 0 ... 1.
template <bool kChecked, class Real>
std::int64_t read_soft_labels(const Labels& labels, std::int64_t first, int count, Real* to, LabelBits& bits,
                              const std::uint64_t* among = nullptr);

// One byte a pixel, 0 or 1.
void read_mask(const TensorView& mask, std::int64_t first, std::int64_t count, std::uint8_t* to);

}  // namespace rarepixel::RAREPIXEL_ISA
