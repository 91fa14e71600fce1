// Thinning (../thinning.h) on the GPU: 32 pixels a word, one block an image, no look at the result from the host.
//
// A block is enough: rows at rest are skipped, and what moves is a few words a row. It needs no barrier between blocks,
// so any number of images and any GPU will do, and a CUDA graph can hold it.
#pragma once

#include "../thinning.h"
#include "launch.cuh"

namespace rarepixel::cuda {

inline constexpr int kThinningThreads = 1024;
inline constexpr unsigned int kWholeWarp = 0xffffffffu;

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

// A word of a row with its neighbours to either side; zeros outside the image.
__device__ inline ThinningRow<std::uint32_t> thinning_row(const BitImages& images, const std::uint32_t* image,
                                                          std::int64_t row, std::int64_t word) {
  if (row < 0 || row >= images.rows) return {0, 0, 0};
  const std::uint32_t* at = image + row * images.words + word;
  const std::uint32_t west = word > 0 ? at[-1] : 0, here = at[0], east = word + 1 < images.words ? at[1] : 0;
  return {here << 1 | west >> 31, here, here >> 1 | east << 31};
}

// `deleted`: [count, rows, words]; `look` and `changed`: [count, rows]. A warp takes every 32nd row. A row is looked at
// again only if it or a neighbour has changed since the same subiteration last looked at it.
static __global__ void __launch_bounds__(kThinningThreads)
    thin_kernel(BitImages images, std::uint32_t* deleted, std::uint8_t* look, std::uint8_t* changed) {
  constexpr int kWarps = kThinningThreads / kWarp;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const std::int64_t rows = images.rows, words = images.words;
  std::uint32_t* const bits = images.bits + blockIdx.x * rows * words;
  deleted += blockIdx.x * rows * words;
  look += blockIdx.x * rows;
  changed += blockIdx.x * rows;
  for (std::int64_t r = threadIdx.x; r < rows; r += kThinningThreads) {
    look[r] = 3;
    changed[r] = 0;
  }
  __syncthreads();
  bool again = true;
  while (again) {
    again = false;
    for (int second = 0; second < 2; ++second) {
      const std::uint8_t mine = static_cast<std::uint8_t>(1 << second);
      bool any = false;
      for (std::int64_t r = warp; r < rows; r += kWarps) {
        if ((look[r] & mine) == 0) continue;
        bool of_row = false;
        for (std::int64_t w = lane; w < words; w += kWarp) {
          const std::uint32_t gone = deletable(thinning_row(images, bits, r - 1, w), thinning_row(images, bits, r, w),
                                               thinning_row(images, bits, r + 1, w), second != 0);
          deleted[r * words + w] = gone;
          of_row |= gone != 0;
        }
        of_row = __any_sync(kWholeWarp, of_row);
        if (lane == 0) {
          look[r] &= static_cast<std::uint8_t>(~mine);
          changed[r] = of_row;
        }
        any |= of_row;
      }
      // All have looked before any row changes, and all rows have changed before any is looked at again.
      if (!__syncthreads_or(any)) continue;
      again = true;
      for (std::int64_t r = warp; r < rows; r += kWarps) {
        if (!changed[r]) continue;
        for (std::int64_t w = lane; w < words; w += kWarp) bits[r * words + w] &= ~deleted[r * words + w];
        __syncwarp();
        if (lane == 0) changed[r] = 0;
        if (lane < 3 && r + lane >= 1 && r + lane <= rows) look[r + lane - 1] = 3;
      }
      __syncthreads();
    }
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

inline void thin(const Tensor& like, const BitImages& images, cudaStream_t stream) {
  const Tensor deleted = empty_on_device_of(like, {images.all_words()}, ScalarType::Int);
  const Tensor flags = empty_on_device_of(like, {2, images.count * images.rows}, ScalarType::Byte);
  std::uint8_t* const look = static_cast<std::uint8_t*>(flags.mutable_data_ptr());
  STD_TORCH_CHECK(images.count <= 0x7fffffff, "rarepixel: too many images for one launch: ", images.count);
  thin_kernel<<<static_cast<unsigned int>(images.count), kThinningThreads, 0, stream>>>(
      images, static_cast<std::uint32_t*>(deleted.mutable_data_ptr()), look, look + images.count * images.rows);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace rarepixel::cuda
