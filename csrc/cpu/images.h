// Images of a batch, and memory for their bits.
#pragma once

#include <vector>

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

class BitImageMemory {
 public:
  BitImageMemory(std::int64_t rows, std::int64_t columns) {
    image_.rows = rows;
    image_.columns = columns;
    const std::int64_t words = image_.words();
    bits_.resize((rows + 2) * (words + 2));
    lines_.resize(2 * words);
    look_.resize(rows + 2);
    changed_.resize(rows);
    image_.bits = bits_.data();
    image_.lines = lines_.data();
    image_.look = look_.data();
    image_.changed = changed_.data();
  }

  const BitImage& image() const { return image_; }

 private:
  BitImage image_;
  std::vector<std::uint64_t> bits_, lines_;
  std::vector<std::uint8_t> look_, changed_;
};

}  // namespace rarepixel::cpu
