// Thinning (../thinning.h) on the GPU: 32 pixels a word, many blocks an image, no look at the result from the host.
//
// An image is cut into tiles and thinned in rounds of kSubiterations. In a round a block takes a tile, with a halo
// around it, into shared memory and thins it without asking anybody. A subiteration looks one pixel far, and what lies
// beyond the halo is not known: after n subiterations the outermost n rows and columns may be wrong. The halo has as
// many as a round has subiterations, so the tile itself is right. It goes into a second buffer, because others still
// read the first; the next round goes back.
//
// A round is a launch, and their number depends on the shape alone: enough for something as thick as the image. A tile
// at rest costs a round no more than a look at its neighbours. What still moves then, which is rare, one block an image
// brings to its end. No block waits for another, so any number of images and any GPU will do, and a CUDA graph can hold
// all of it.
#pragma once

#include "../thinning.h"
#include "launch.cuh"

namespace rarepixel::cuda {

// A batch of images of one bit a pixel; bits beyond the last column are 0.
struct BitImages {
  std::int64_t count = 0, rows = 0, columns = 0, words = 0;
  std::uint32_t* bits = nullptr;    // [count, rows, words]
  std::uint32_t* before = nullptr;  // the same, as it was before thinning; null if nobody wants to know

  __host__ __device__ std::int64_t all_words() const { return count * rows * words; }
};

// One warp a word, one lane a pixel.
struct WordOfWarp {
  std::int64_t pixel;  // of the lane, in contiguous order
  bool inside;         // the row reaches so far

  __device__ WordOfWarp(const BitImages& images, std::int64_t word) {
    const std::int64_t column = word % images.words * kWarp + threadIdx.x % kWarp;
    pixel = word / images.words * images.columns + column;
    inside = column < images.columns;
  }
};

// Calls run(number of the word) for the words of a warp.
template <class Run>
__device__ void for_each_word(const BitImages& images, const Run& run) {
  const std::int64_t warps = std::int64_t(gridDim.x) * (kThreads / kWarp);
  const std::int64_t first = std::int64_t(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  for (std::int64_t word = first; word < images.all_words(); word += warps) run(word);
}

inline unsigned int blocks_for_words(const BitImages& images) {
  constexpr std::int64_t kMostBlocks = 4096;
  return static_cast<unsigned int>(
      std::min(kMostBlocks, (images.all_words() + kThreads / kWarp - 1) / (kThreads / kWarp)));
}

// What is set: bytes that are not 0, logits of at least 0 (p >= 1/2; a NaN predicts nothing).
template <class T>
__device__ bool is_set(T value) {
  if constexpr (std::is_same_v<T, std::uint8_t>) return value != 0;
  else return to_real<double>(value) >= 0;
}

template <class T>
__global__ void __launch_bounds__(kThreads) pack_kernel(const __grid_constant__ TensorView pixels, BitImages images) {
  for_each_word(images, [&](std::int64_t word) {
    const WordOfWarp at(images, word);
    const bool set =
        at.inside && is_set(static_cast<const T*>(pixels.data)[at.inside ? offset_of(pixels, at.pixel) : 0]);
    const std::uint32_t bits = __ballot_sync(kWholeWarp, set);
    if (threadIdx.x % kWarp == 0) {
      images.bits[word] = bits;
      if (images.before != nullptr) images.before[word] = bits;
    }
  });
}

// ---- Rounds ----

inline constexpr int kSubiterations = 64;  // of a round: an even number, as each begins with the first of the two
inline constexpr int kTileRows = 128, kTileWords = 4;
inline constexpr int kHaloRows = kSubiterations, kHaloWords = kSubiterations / kWarp;
inline constexpr int kHeldRows = kHaloRows + kTileRows + kHaloRows, kHeldWords = kHaloWords + kTileWords + kHaloWords;

// What a block holds is cut into patches, one a warp, and a lane has a few rows of one word.
inline constexpr int kPatchWords = 4, kRowsOfLane = 4, kPatchRows = kWarp / kPatchWords * kRowsOfLane;
inline constexpr int kPatchesDown = kHeldRows / kPatchRows, kPatchesAcross = kHeldWords / kPatchWords;
inline constexpr int kThinningThreads = kPatchesDown * kPatchesAcross * kWarp;
static_assert(kHaloWords * kWarp == kSubiterations && kSubiterations % 2 == 0);
static_assert(kHaloRows <= kTileRows && kHaloWords <= kTileWords, "what a block holds is of a tile and its neighbours");
static_assert(kTileRows * kTileWords == kThinningThreads, "a thread stores one word of the tile");

// An odd number of words a row: the lanes of a patch find theirs in different banks.
using HeldBits = std::uint32_t[kHeldRows][kHeldWords + 1];

// Images cut into tiles. Round n goes from buffers[n % 2] to the other, and says in changed[n % 2] which tiles it has
// changed. A tile that a round has not changed is the same in both buffers.
struct TiledImages {
  std::int64_t rows, words;   // of an image
  int down, across;           // tiles of an image
  std::uint32_t* buffers[2];  // [count, rows, words]
  std::uint8_t* changed[2];   // [count, down, across]

  __host__ __device__ int tiles() const { return down * across; }
};

// A word of a row with its neighbours to either side. Beyond the halo anything would do; the outermost row or word once
// more leaves the inside of a shape at rest.
__device__ inline ThinningRow<std::uint32_t> thinning_row(const HeldBits& bits, int row, int word) {
  const std::uint32_t* const at = bits[min(max(row, 0), kHeldRows - 1)];
  const std::uint32_t west = at[max(word - 1, 0)], here = at[word], east = at[min(word + 1, kHeldWords - 1)];
  return {here << 1 | west >> 31, here, here >> 1 | east << 31};
}

// A patch and those around it, one bit each. Patches are numbered from north to south, then from west to east.
__device__ inline std::uint32_t patches_around(int patch) {
  static_assert(kPatchesDown == 8 && kPatchesAcross == 2);
  const std::uint32_t of_column = (7u << patch % kPatchesDown >> 1) & 0xffu;
  return of_column | of_column << kPatchesDown;
}

// One subiteration of a warp's patch. moved[0] and moved[1] are the patches that the last two subiterations changed;
// those of this one are added to moved[2]. If nothing moved around the patch, this subiteration would find what it
// found last time, which was nothing, and `to` holds the words of `from` already.
template <bool kSecond>
__device__ void thin_patch(const HeldBits& from, HeldBits& to, std::uint32_t* moved) {
  const int patch = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (((moved[0] | moved[1]) & patches_around(patch)) == 0) return;
  const int row = patch % kPatchesDown * kPatchRows + lane / kPatchWords * kRowsOfLane;
  const int word = patch / kPatchesDown * kPatchWords + lane % kPatchWords;
  ThinningRow<std::uint32_t> north = thinning_row(from, row - 1, word), here = thinning_row(from, row, word);
  bool any = false;
#pragma unroll
  for (int i = 0; i < kRowsOfLane; ++i) {
    const ThinningRow<std::uint32_t> south = thinning_row(from, row + i + 1, word);
    const std::uint32_t gone = deletable(north, here, south, kSecond);
    to[row + i][word] = here.here & ~gone;
    any |= gone != 0;
    north = here;
    here = south;
  }
  if (__any_sync(kWholeWarp, any) && lane == 0) atomicOr(&moved[2], 1u << patch);
}

// A round of one tile; returns whether that has changed it. If the last round changed neither the tile nor a neighbour,
// all that the tile depends on is as it was then, and this round would not change it either.
__device__ inline bool thin_tile(const TiledImages& images, int tile, int round) {
  __shared__ HeldBits held[2];
  __shared__ std::uint32_t moved[2 + kSubiterations];
  const std::uint8_t* const changed_before = images.changed[(round + 1) % 2];
  const int image = tile / images.tiles(), down = tile % images.tiles() / images.across, across = tile % images.across;

  bool look = round == 0;
  if (!look && threadIdx.x < 9) {
    const int to_south = static_cast<int>(threadIdx.x / 3) - 1, to_east = static_cast<int>(threadIdx.x % 3) - 1;
    const int near_down = down + to_south, near_across = across + to_east;
    look = near_down >= 0 && near_down < images.down && near_across >= 0 && near_across < images.across &&
           changed_before[tile + to_south * images.across + to_east] != 0;
  }
  bool changed = false;
  if (__syncthreads_or(look)) {
    const std::int64_t first_row = std::int64_t(down) * kTileRows, first_word = std::int64_t(across) * kTileWords;
    const std::int64_t start = image * images.rows * images.words;
    const std::uint32_t* const from = images.buffers[round % 2] + start;
    std::uint32_t* const to = images.buffers[(round + 1) % 2] + start;
    for (int i = threadIdx.x; i < kHeldRows * kHeldWords; i += kThinningThreads) {
      const std::int64_t row = first_row + i / kHeldWords - kHaloRows, word = first_word + i % kHeldWords - kHaloWords;
      const bool inside = row >= 0 && row < images.rows && word >= 0 && word < images.words;
      held[0][i / kHeldWords][i % kHeldWords] = inside ? from[row * images.words + word] : 0;
    }
    if (threadIdx.x < 2 + kSubiterations) moved[threadIdx.x] = threadIdx.x < 2 ? ~0u : 0u;
    __syncthreads();
    for (int n = 0; n < kSubiterations && (moved[n] | moved[n + 1]) != 0; n += 2) {
      thin_patch<false>(held[0], held[1], moved + n);
      __syncthreads();
      thin_patch<true>(held[1], held[0], moved + n + 1);
      __syncthreads();
    }
    const int row_of_tile = threadIdx.x / kTileWords, word_of_tile = threadIdx.x % kTileWords;
    const std::int64_t row = first_row + row_of_tile, word = first_word + word_of_tile;
    if (row < images.rows && word < images.words) {
      const std::uint32_t bits = held[0][kHaloRows + row_of_tile][kHaloWords + word_of_tile];
      changed = bits != from[row * images.words + word];
      to[row * images.words + word] = bits;
    }
    changed = __syncthreads_or(changed);
  }
  if (threadIdx.x == 0) images.changed[round % 2][tile] = changed;
  return changed;
}

// One block a tile.
static __global__ void __launch_bounds__(kThinningThreads)
    thin_tiles_kernel(const __grid_constant__ TiledImages images, int round) {
  thin_tile(images, static_cast<int>(blockIdx.x), round);
}

// One block an image: further rounds, tile by tile, until one changes nothing. Both buffers are the same then.
static __global__ void __launch_bounds__(kThinningThreads)
    finish_thinning_kernel(const __grid_constant__ TiledImages images, int round) {
  const int first = static_cast<int>(blockIdx.x) * images.tiles(), last = first + images.tiles();
  bool moves = round == 0;
  if (!moves) {
    for (int tile = first + threadIdx.x; tile < last; tile += kThinningThreads) {
      moves |= images.changed[(round + 1) % 2][tile] != 0;
    }
    moves = __syncthreads_or(moves);
  }
  for (; moves; ++round) {
    moves = false;
    for (int tile = first; tile < last; ++tile) moves |= thin_tile(images, tile, round);
    __syncthreads();  // what this round changed is noted before the next one looks
  }
}

// Memory for the bits of [*, H, W], with what they were before thinning if that is wanted.
struct BitImagesMemory {
  BitImages images;
  Tensor bits;  // [1 or 2, count, rows, words], int32

  BitImagesMemory(const Tensor& like, std::int64_t count, std::int64_t rows, std::int64_t columns, bool keeps_before)
      : images{count, rows, columns, (columns + kWarp - 1) / kWarp},
        bits(empty_on_device_of(like, {keeps_before ? 2 : 1, images.all_words()}, ScalarType::Int)) {
    images.bits = static_cast<std::uint32_t*>(bits.mutable_data_ptr());
    if (keeps_before) images.before = images.bits + images.all_words();
  }
};

inline void pack(const TensorView& pixels, const BitImages& images, cudaStream_t stream) {
  const unsigned int blocks = blocks_for_words(images);
  const auto launch = [&]<class T>(T) {
    pack_kernel<T><<<blocks, kThreads, 0, stream>>>(pixels, images);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  };
  switch (pixels.dtype) {
    case DType::kByte: return launch(std::uint8_t{});
    case DType::kFloat16: return launch(Float16{});
    case DType::kBFloat16: return launch(BFloat16{});
    case DType::kFloat64: return launch(0.0);
    default: return launch(0.0f);
  }
}

// How many rounds are launched. Two subiterations take a pixel off every side, so nearly every shape is thin after as
// many as it is thick, and none is thicker than the shorter side of the image; one more round sees that nothing moves.
// (A bar with teeth can open like a zipper, a tooth a subiteration.) One block thins a single tile to its end anyway.
inline int rounds_of(const BitImages& images, std::int64_t tiles_of_image) {
  if (tiles_of_image == 1) return 0;
  const std::int64_t thickness = std::min(images.rows, images.columns);
  return static_cast<int>((thickness + kSubiterations - 1) / kSubiterations) + 1;
}

inline void thin(const Tensor& like, const BitImages& images, cudaStream_t stream) {
  const std::int64_t down = (images.rows + kTileRows - 1) / kTileRows;
  const std::int64_t across = (images.words + kTileWords - 1) / kTileWords;
  const std::int64_t tiles = images.count * down * across;
  STD_TORCH_CHECK(tiles <= 0x7fffffff, "rarepixel: too many images for one launch: ", images.count);
  const Tensor other = empty_on_device_of(like, {images.all_words()}, ScalarType::Int);
  const Tensor flags = empty_on_device_of(like, {2, tiles}, ScalarType::Byte);
  std::uint8_t* const changed = static_cast<std::uint8_t*>(flags.mutable_data_ptr());
  TiledImages tiled;
  tiled.rows = images.rows;
  tiled.words = images.words;
  tiled.down = static_cast<int>(down);
  tiled.across = static_cast<int>(across);
  tiled.buffers[0] = images.bits;
  tiled.buffers[1] = static_cast<std::uint32_t*>(other.mutable_data_ptr());
  tiled.changed[0] = static_cast<std::uint8_t*>(flags.mutable_data_ptr());
  tiled.changed[1] = tiled.changed[0] + tiles;
  const int rounds = rounds_of(images, down * across);
  for (int round = 0; round < rounds; ++round) {
    thin_tiles_kernel<<<static_cast<unsigned int>(tiles), kThinningThreads, 0, stream>>>(tiled, round);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  finish_thinning_kernel<<<static_cast<unsigned int>(images.count), kThinningThreads, 0, stream>>>(tiled, rounds);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace rarepixel::cuda
