// Segment-level thickness loss (Yan, Yang and Cheng, IEEE TBME 2018).
//
// Of segment i, with range R, annotated skeleton S, vessel labels y, prediction h = [x >= 0] and its skeleton thin(h):
//     t  = |R & y| / |S|                      thickness of the annotation
//     t' = |R & h| / |R & thin(h)|            of the prediction; 0 unless |R & thin(h)| > min_coverage |S|
//     w  = 2 - similarity = 1 + |t' - t| / t  weight of its pixels; 2 if t = 0, 1 if S is empty
// Predicted pixels outside every range that are no vessel weigh 2, other pixels outside 1. With b the weight of
// background, of background in a range, or of vessel,
//     L = sum of b w softplus(z),    dL/dx = -+b w sigmoid(z)    (- on positives; z = -x there, x elsewhere)
// and reduction="mean" divides by the sum of b.
#pragma once

#include <cstdint>

#include "../declaration.h"
#include "../region.h"

namespace rarepixel {

// What is counted in the range of a segment.
struct SegmentCounts {
  std::int64_t annotated_skeleton = 0;
  std::int64_t annotated = 0;
  std::int64_t predicted_skeleton = 0;
  std::int64_t predicted = 0;
};

struct ComparedSegment {
  double annotated_thickness, predicted_thickness;  // -1 if no pixel of its skeleton counts
  double weight;
};

RAREPIXEL_INLINE ComparedSegment compare(const SegmentCounts& counts, double min_coverage) {
  if (counts.annotated_skeleton == 0) return {-1, -1, 1};
  const double skeleton = static_cast<double>(counts.annotated_skeleton);
  const double found = static_cast<double>(counts.predicted_skeleton);
  const double annotated = static_cast<double>(counts.annotated) / skeleton;
  const double predicted = found > min_coverage * skeleton ? static_cast<double>(counts.predicted) / found : 0;
  const double difference = predicted > annotated ? predicted - annotated : annotated - predicted;
  return {annotated, predicted, annotated > 0 ? 1 + difference / annotated : 2};
}

struct SegmentThickness : RegionLoss {
  enum Sum { kLoss, kBackgroundPixels, kNearPixels, kVesselPixels, kNumSums };
  enum Coefficient { kBackground, kNear, kVessel, kNumCoefficients };  // b of each
  static constexpr bool kWeighsSegments = true;

  double pixel_weights[kNumCoefficients] = {};

  // `of_segment`: the weight w of the pixel's segment, 0 outside every range.
  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V of_segment, V (&sums)[kNumSums]) const {
    using T = ScalarOf<V>;
    const V weights[] = {V(static_cast<T>(pixel_weights[kBackground])), V(static_cast<T>(pixel_weights[kNear])),
                         V(static_cast<T>(pixel_weights[kVessel]))};
    const V w = weight(pixel, of_segment, weights);
    // What weighs nothing adds nothing, though its loss may be infinite.
    const V bound = select(w == V(0), V(MathConstants<T>::kLargest), V(MathConstants<T>::kInfinity));
    const V loss = w * at_most(bound, softplus(negated_margin(pixel)));
    const MaskOf<V> in_range = V(0) < of_segment;
    sums[kLoss] = add_where(pixel.counts, sums[kLoss], loss);
    // Counted, not weighed: a sum of many equal weights would drift.
    sums[kVesselPixels] = add_where(pixel.counts & pixel.positive, sums[kVesselPixels], V(1));
    sums[kNearPixels] = add_where(pixel.counts & in_range & !pixel.positive, sums[kNearPixels], V(1));
    sums[kBackgroundPixels] = add_where(pixel.counts & !(in_range | pixel.positive), sums[kBackgroundPixels], V(1));
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums) const {
    const double* b = pixel_weights;
    return {sums[kLoss],
            b[kBackground] * sums[kBackgroundPixels] + b[kNear] * sums[kNearPixels] + b[kVessel] * sums[kVesselPixels],
            {b[kBackground], b[kNear], b[kVessel]}};
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, V of_segment, const V (&coefficients)[kNumCoefficients]) const {
    const V slope = sigmoid(negated_margin(pixel));
    return weight(pixel, of_segment, coefficients) * select(pixel.positive, -slope, slope);
  }

 private:
  // b w
  template <class V>
  RAREPIXEL_INLINE static V weight(const Pixel<V>& pixel, V of_segment, const V (&weights)[kNumCoefficients]) {
    const MaskOf<V> in_range = V(0) < of_segment;
    const V b = select(pixel.positive, weights[kVessel], select(in_range, weights[kNear], weights[kBackground]));
    const V outside = select(pixel.positive | (pixel.logit < V(0)), V(1), V(2));
    return b * select(in_range, of_segment, outside);
  }
};

namespace operators {

struct segment_thickness : Declaration<SegmentThickness> {
  using Options = OptionList<ForwardOption<"pixel_weights", Numbers>>;

  static const char* complaint(Numbers pixel_weights) {
    return pixel_weights.size == SegmentThickness::kNumCoefficients ? nullptr : "expected three pixel weights";
  }

  template <class Run>
  static auto with_loss(Numbers pixel_weights, const Run& run) {
    SegmentThickness loss;
    for (int i = 0; i < pixel_weights.size; ++i) loss.pixel_weights[i] = pixel_weights.data[i];
    return run(loss);
  }
};

}  // namespace operators
}  // namespace rarepixel
