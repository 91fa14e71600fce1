// Tensors for the engine's tests: any layout, any type, memory that notices what must not be touched.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "problem.h"
#include "reference.h"

namespace rarepixel::test {

// Bytes between two guard zones. intact() sees a write into the zones, AddressSanitizer a read as well. Without it,
// what is read there are NaNs and labels of 0xff, that show in the results.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::size_t size, unsigned char fill = 0xff)
      : size_(size), fill_(fill), bytes_(size + 2 * kGuard, fill) {
    poison(true);
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes(GuardedBytes&& other) noexcept = default;
  ~GuardedBytes() {
    if (!bytes_.empty()) poison(false);
  }

  unsigned char* data() { return bytes_.data() + kGuard; }
  const unsigned char* data() const { return bytes_.data() + kGuard; }
  std::size_t size() const { return size_; }
  unsigned char fill() const { return fill_; }

  bool intact() {
    poison(false);
    bool same = true;
    for (std::size_t i = 0; i < kGuard; ++i) {
      same = same && bytes_[i] == fill_ && bytes_[kGuard + size_ + i] == fill_;
    }
    poison(true);
    return same;
  }

 private:
  static constexpr std::size_t kGuard = 4096;

  void poison([[maybe_unused]] bool on) {
#if defined(__SANITIZE_ADDRESS__)
    if (on) {
      ASAN_POISON_MEMORY_REGION(bytes_.data(), kGuard);
      ASAN_POISON_MEMORY_REGION(data() + size_, kGuard);
    } else {
      ASAN_UNPOISON_MEMORY_REGION(bytes_.data(), bytes_.size());
    }
#endif
  }

  std::size_t size_;
  unsigned char fill_;
  std::vector<unsigned char> bytes_;
};

// An array of plain numbers between guard zones, for outputs. The fill is no number that comes out of the engine.
template <class T>
class GuardedArray {
 public:
  explicit GuardedArray(std::size_t count) : bytes_(count * sizeof(T), 0xa5) {}
  T* data() { return reinterpret_cast<T*>(bytes_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data()); }
  std::size_t size() const { return bytes_.size() / sizeof(T); }
  const T& operator[](std::size_t i) const { return data()[i]; }
  bool intact() { return bytes_.intact(); }
  bool same_bytes_as(const GuardedArray& other) const {
    return size() == other.size() && std::memcmp(data(), other.data(), bytes_.size()) == 0;
  }

 private:
  GuardedBytes bytes_;
};

inline constexpr int kRank = kMaxRank;

struct Shape {
  std::int64_t size[kRank];  // (N, C, D, H, W)
  std::int64_t numel() const { return size[0] * size[1] * size[2] * size[3] * size[4]; }
};

enum class Layout {
  kContiguous,
  kShifted,            // contiguous, but one element off the alignment of memory
  kEverySecond,        // of the elements of a contiguous tensor twice as wide
  kPaddedRows,         // a crop of wider rows
  kChannelsLast,       // (N, D, H, W, C) in memory
  kReversed,           // (W, H, D, C, N) in memory
  kBroadcastChannels,  // one for all channels; for masks
  kBroadcastImages,    // one for all images and channels
};

struct Strides {
  std::int64_t stride[kRank];
  std::int64_t extent;  // elements from the first to the last
};

inline Strides strides_for(const Shape& shape, Layout layout) {
  constexpr int kPlain[] = {0, 1, 2, 3, 4}, kChannelsLast[] = {0, 2, 3, 4, 1}, kReversed[] = {4, 3, 2, 1, 0};
  const int* outer_to_inner = layout == Layout::kChannelsLast ? kChannelsLast
                              : layout == Layout::kReversed   ? kReversed
                                                              : kPlain;
  Strides strides{};
  std::int64_t stride = layout == Layout::kEverySecond ? 2 : 1;
  for (int d = kRank - 1; d >= 0; --d) {
    const int dimension = outer_to_inner[d];
    const bool broadcast = (layout == Layout::kBroadcastChannels && dimension == 1) ||
                           (layout == Layout::kBroadcastImages && dimension <= 1);
    strides.stride[dimension] = broadcast ? 0 : stride;
    if (!broadcast) stride *= shape.size[dimension];
    if (layout == Layout::kPaddedRows && d == kRank - 1) stride += 5;
  }
  strides.extent = 1;
  for (int d = 0; d < kRank; ++d) strides.extent += (shape.size[d] - 1) * strides.stride[d];
  return strides;
}

class TestTensor {
 public:
  TestTensor(const Shape& shape, Layout layout, DType dtype)
      : shape_(shape),
        strides_(strides_for(shape, layout)),
        dtype_(dtype),
        shift_(layout == Layout::kShifted ? 1 : 0),
        bytes_(static_cast<std::size_t>(strides_.extent + shift_) * element_size(dtype)) {}

  // Element i in contiguous (N, C, D, H, W) order. Numbers that the type cannot hold wrap around or are rounded.
  void set(std::int64_t i, double value) {
    unsigned char* to = at(i);
    switch (dtype_) {
      case DType::kFloat16: return put(to, half_bits(value, 5, 10));
      case DType::kBFloat16: return put(to, half_bits(value, 8, 7));
      case DType::kFloat32: return put(to, static_cast<float>(value));
      case DType::kFloat64: return put(to, value);
      case DType::kByte: return put(to, static_cast<std::uint8_t>(static_cast<std::int64_t>(value)));
      case DType::kInt8: return put(to, static_cast<std::int8_t>(static_cast<std::int64_t>(value)));
      case DType::kInt16: return put(to, static_cast<std::int16_t>(static_cast<std::int64_t>(value)));
      case DType::kInt32: return put(to, static_cast<std::int32_t>(static_cast<std::int64_t>(value)));
      case DType::kInt64: return put(to, static_cast<std::int64_t>(value));
    }
  }

  double get(std::int64_t i) const {
    const unsigned char* from = at(i);
    switch (dtype_) {
      case DType::kFloat16: return decode(take<std::uint16_t>(from), 5, 10);
      case DType::kBFloat16: return decode(take<std::uint16_t>(from), 8, 7);
      case DType::kFloat32: return take<float>(from);
      case DType::kFloat64: return take<double>(from);
      case DType::kByte: return take<std::uint8_t>(from);
      case DType::kInt8: return take<std::int8_t>(from);
      case DType::kInt16: return take<std::int16_t>(from);
      case DType::kInt32: return take<std::int32_t>(from);
      default: return static_cast<double>(take<std::int64_t>(from));
    }
  }

  std::int64_t numel() const { return shape_.numel(); }

  // As the engine wants it: no dimensions of one, neighbours that lie as one merged.
  TensorView view() {
    TensorView view;
    view.data = bytes_.data() + static_cast<std::size_t>(shift_) * element_size(dtype_);
    view.dtype = dtype_;
    for (int d = 0; d < kRank; ++d) {
      const std::int64_t size = shape_.size[d], stride = strides_.stride[d];
      if (size == 1) continue;
      const bool lies_as_one = view.rank > 0 && view.stride[view.rank - 1] == size * stride;
      if (!lies_as_one) ++view.rank;
      view.size[view.rank - 1] = lies_as_one ? view.size[view.rank - 1] * size : size;
      view.stride[view.rank - 1] = stride;
    }
    if (view.rank == 0) {
      view.rank = 1;
      view.size[0] = view.stride[0] = 1;
    }
    return view;
  }

  // Nothing was written around the tensor, nor between its elements.
  bool intact() {
    std::vector<bool> element(bytes_.size());
    for (std::int64_t i = 0; i < numel(); ++i) {
      const auto start = static_cast<std::size_t>(at(i) - bytes_.data());
      for (int b = 0; b < element_size(dtype_); ++b) element[start + b] = true;
    }
    for (std::size_t b = 0; b < element.size(); ++b) {
      if (!element[b] && bytes_.data()[b] != bytes_.fill()) return false;
    }
    return bytes_.intact();
  }

 private:
  template <class T>
  static void put(unsigned char* to, T value) {
    std::memcpy(to, &value, sizeof value);
  }
  template <class T>
  static T take(const unsigned char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static std::uint16_t half_bits(double value, int exponent_bits, int mantissa_bits) {
    return static_cast<std::uint16_t>(std::isnan(value) ? 0x7fff : encode(value, exponent_bits, mantissa_bits));
  }

  std::int64_t offset(std::int64_t i) const {
    std::int64_t elements = shift_;
    for (int d = kRank - 1; d >= 0; --d) {
      elements += i % shape_.size[d] * strides_.stride[d];
      i /= shape_.size[d];
    }
    return elements;
  }
  unsigned char* at(std::int64_t i) {
    return bytes_.data() + static_cast<std::size_t>(offset(i)) * element_size(dtype_);
  }
  const unsigned char* at(std::int64_t i) const {
    return bytes_.data() + static_cast<std::size_t>(offset(i)) * element_size(dtype_);
  }

  Shape shape_;
  Strides strides_;
  DType dtype_;
  std::int64_t shift_;
  GuardedBytes bytes_;
};

}  // namespace rarepixel::test
