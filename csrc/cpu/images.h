// Images of a batch, and memory for the bits of one.
#pragma once

#include <cstring>

#include "../tensors.h"
#include "kernels.h"

namespace rarepixel::cpu {

// How many images of [*, H, W] there are, and their pixels.
struct Images {
  std::int64_t count = 1, rows, columns;

  explicit Images(const Tensor& images) : rows(images.size(images.dim() - 2)), columns(images.size(images.dim() - 1)) {
    for (std::int64_t d = 0; d < images.dim() - 2; ++d) count *= images.size(d);
  }
  std::int64_t pixels() const { return rows * columns; }
};

// Zeros for a BitImage and, if wanted, for a copy of its bits: a tensor, as torch's memory profiler sees tensors alone.
class BitImageMemory {
 public:
  BitImageMemory(const Tensor& like, std::int64_t rows, std::int64_t columns, bool with_copy)
      : memory_(empty_on_device_of(like, {bytes(rows, columns, with_copy)}, ScalarType::Byte)) {
    image_.rows = rows;
    image_.columns = columns;
    const std::int64_t words = image_.words();
    void* const begin = memory_.mutable_data_ptr();
    std::memset(begin, 0, memory_.numel());
    image_.bits = static_cast<std::uint64_t*>(begin);
    image_.lines = image_.bits + (rows + 2) * (words + 2);
    copy_ = image_.lines + 2 * words;
    image_.look = reinterpret_cast<std::uint8_t*>(copy_ + (with_copy ? rows * words : 0));
    image_.changed = image_.look + rows + 2;
  }

  const BitImage& image() const { return image_; }
  std::uint64_t* copy() const { return copy_; }  // [rows, words]

 private:
  static std::int64_t bytes(std::int64_t rows, std::int64_t columns, bool with_copy) {
    BitImage image;
    image.columns = columns;
    const std::int64_t words = image.words();
    return 8 * ((rows + 2) * (words + 2) + 2 * words + (with_copy ? rows * words : 0)) + (rows + 2) + rows;
  }

  Tensor memory_;
  BitImage image_;
  std::uint64_t* copy_;
};

}  // namespace rarepixel::cpu
