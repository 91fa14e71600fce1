// Eight pixels with everything that a loss may ask of them: the one place that reads what engine.cuh's losses see.
#pragma once

#include "labels.cuh"

namespace rarepixel::cuda {

// Which of an octet's pixels are positive and which count, `among` those that may, as bits; `invalid` of those that count
// mean nothing.
template <bool kWide>
struct OctetBits {
  std::uint32_t positive = 0, counts = 0;
  int invalid = 0;

  OctetBits() = default;
  __device__ OctetBits(const RegionProblem& problem, const LabelCodes& codes, std::int64_t first, int count,
                       std::uint32_t among = ~0u) {
    const OctetLabels labels = read_labels<kWide>(problem.labels, codes, first, count);
    counts = ~labels.ignored & among & ((1u << count) - 1);
    if (problem.labels.mask.data != nullptr) counts &= read_mask<kWide>(problem.labels.mask, first, count);
    positive = labels.positive;
    invalid = __popc(counts & ~(labels.positive | labels.negative));
  }
};

// Labels that are numbers; `invalid` of those that count are outside 0 ... 1.
template <bool kWide, class Real>
__device__ OctetBits<kWide> load_soft_labels(const RegionProblem& problem, std::int64_t first, int count,
                                             std::uint32_t among, Real (&to)[kOctet]) {
  const Labels& labels = problem.labels;
  switch (labels.target.dtype) {
    case DType::kFloat16: load_reals<kWide, Float16>(labels.target, first, count, to); break;
    case DType::kBFloat16: load_reals<kWide, BFloat16>(labels.target, first, count, to); break;
    case DType::kFloat64: load_reals<false, double>(labels.target, first, count, to); break;
    default: load_reals<kWide, float>(labels.target, first, count, to);
  }
  OctetBits<kWide> bits;
  bits.counts = among;
  if (labels.mask.data != nullptr) bits.counts &= read_mask<kWide>(labels.mask, first, count);
  const Real ignore = static_cast<Real>(labels.ignore_index);
  const bool can_ignore = labels.has_ignore_index && is_exactly(ignore, labels.ignore_index);
  // Those of more digits than the loss is computed in are judged as they are.
  const bool rounded = sizeof(Real) < sizeof(double) && labels.target.dtype == DType::kFloat64;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    bool ignored = can_ignore && to[i] == ignore, inside = to[i] >= 0 && to[i] <= 1;
    if (rounded && i < count) {
      const double label = static_cast<const double*>(labels.target.data)[offset_of(labels.target, first + i)];
      ignored = labels.has_ignore_index && is_exactly(label, labels.ignore_index);
      inside = label >= 0 && label <= 1;
    }
    if (ignored) bits.counts &= ~(1u << i);
    if ((bits.counts >> i) & 1u) bits.invalid += !inside;
  }
  return bits;
}

// The weight of the segment of each of an octet's pixels, 0 outside every range; returns how many ids are unknown.
template <bool kWide, class Real>
__device__ int load_segment_weights(const Segments& segments, std::int64_t image, std::int64_t first, int count,
                                    Real (&to)[kOctet]) {
  const Elements<std::int32_t> ids = load_octet<kWide, std::int32_t>(segments.ids, first, count);
  const std::int64_t* const starts = segments.starts + image;
  const Real* const weights = static_cast<const Real*>(segments.weights) + starts[0];
  int unknown = 0;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    const bool known = is_known(ids[i], starts);
    to[i] = ids[i] != 0 && known ? weights[magnitude(ids[i])] : Real(0);
    unknown += !known;
  }
  return unknown;
}

// The weights of an octet's pixels. Returns which are not 0, and which are finite numbers above it.
struct WeightBits {
  std::uint32_t nonzero = 0, usable = 0;
};
template <bool kWide, class Real>
__device__ WeightBits load_weights(const TensorView& weights, std::int64_t first, int count, Real (&to)[kOctet]) {
  load_reals<kWide, Real>(weights, first, count, to);
  WeightBits bits;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    bits.nonzero |= (to[i] == 0 ? 0u : 1u) << i;
    bits.usable |= (to[i] > 0 && to[i] <= MathConstants<Real>::kLargest ? 1u : 0u) << i;
  }
  return bits;
}

// An input that a loss does not ask for takes no register and no time.
template <bool kWide, class Loss, class Real>
struct PixelOctet {
  Real logits[kOctet] = {};
  std::uint32_t positive = 0, counts = 0;  // a bit a pixel, as doubled() has them
  Real uniform[kOctet];                    // for losses that drop pixels, to reduce
  Real numbers[kOctet];                    // soft labels, or weights of segments
  Real weights[kOctet];                    // for losses that weigh pixels

  // Pixels first .. first + count. Returns how many inputs that count are invalid.
  template <class Logit>
  __device__ int read(const ReduceProblem& problem, const LabelCodes& codes, const RoundKeys& keys, std::int64_t region,
                      std::int64_t first, int count) {
    // Labels are asked for before logits are looked at: one wait for both.
    const Elements<Logit> read = load_octet<kWide, Logit>(problem.logits, first, count);
    int invalid = read_labels_of_loss(problem, codes, first, count);
    to_reals(read, logits);
    if constexpr (Loss::kDropsPixels) {
      if (problem.uniform.data == nullptr) random_octet(keys, first, uniform);
      else if (problem.uniform.dtype == DType::kFloat64)
        load_reals<kWide, double>(problem.uniform, first, count, uniform);
      else load_reals<kWide, float>(problem.uniform, first, count, uniform);
    }
    if constexpr (Loss::kWeighsSegments) {
      invalid += load_segment_weights<kWide>(problem.segments, region, first, count, numbers);
    }
    return invalid;
  }

  // The same for map, of pixels `at` on of the region. Where pixels were dropped, what was kept counts, and where
  // nothing was, nothing need be read.
  template <class Logit>
  __device__ void read(const MapProblem& problem, const LabelCodes& codes, std::int64_t region, std::int64_t first,
                       std::int64_t at, int count) {
    if constexpr (Loss::kDropsPixels) {
      counts = doubled(*kept_byte(problem, region, at));
      if (counts == 0) return;
    }
    const Elements<Logit> read = load_octet<kWide, Logit>(problem.logits, first, count);
    if constexpr (Loss::kDropsPixels) {
      positive = doubled(read_labels<kWide>(problem.labels, codes, first, count).positive);
      if constexpr (Loss::kWeighsPixels) load_reals<kWide, Real>(problem.weights, first, count, weights);
    } else {
      read_labels_of_loss(problem, codes, first, count);
    }
    to_reals(read, logits);
    if constexpr (Loss::kWeighsSegments) {
      load_segment_weights<kWide>(problem.segments, region, first, count, numbers);
    }
  }

  __device__ Pixel<Real> pixel(int i) const { return {logits[i], has(positive, i), has(counts, i)}; }

  // The kept bits of the eight pixels from `at` on.
  __device__ static std::uint8_t* kept_byte(const RegionProblem& problem, std::int64_t region, std::int64_t at) {
    return reinterpret_cast<std::uint8_t*>(problem.kept + region * problem.regions.kept_words()) + at / kOctet;
  }

 private:
  // Every bit twice, to test two at once: a compiler shifts a single bit down first, which takes three instructions.
  static constexpr std::uint32_t kTwice = 0x101u;
  __device__ static std::uint32_t doubled(std::uint32_t bits) { return bits * kTwice; }
  __device__ static bool has(std::uint32_t doubled, int i) { return (doubled & kTwice << i) != 0; }

  __device__ int read_labels_of_loss(const RegionProblem& problem, const LabelCodes& codes, std::int64_t first,
                                     int count) {
    std::uint32_t among = (1u << count) - 1;
    [[maybe_unused]] WeightBits of_weights;
    if constexpr (Loss::kWeighsPixels) {
      of_weights = load_weights<kWide>(problem.weights, first, count, weights);
      among &= of_weights.nonzero;
    }
    OctetBits<kWide> bits;
    if constexpr (Loss::kSoftLabels) bits = load_soft_labels<kWide>(problem, first, count, among, numbers);
    else bits = OctetBits<kWide>(problem, codes, first, count, among);
    if constexpr (Loss::kWeighsPixels) bits.invalid += __popc(bits.counts & ~of_weights.usable);
    positive = doubled(bits.positive);
    counts = doubled(bits.counts);
    return bits.invalid;
  }
};

}  // namespace rarepixel::cuda
