#include "caffe/layers/softmax_segment_loss_layer.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/util/thinning.hpp"

namespace caffe {

namespace {

const int kVoid = 255;
const double kSmallestProbability = 1.175494e-38;
const double kMinCoverage = 0.8;
const double kMostIds = 1 << 24;  // beyond, float has no place for every integer

// What is counted in the range of a segment.
struct Segment {
  int annotated_skeleton, predicted_skeleton, predicted;
  double annotated;
  Segment() : annotated_skeleton(0), predicted_skeleton(0), predicted(0), annotated(0) {}

  double Similarity() const {
    const double thickness = annotated / annotated_skeleton;
    const bool covered = predicted_skeleton > kMinCoverage * annotated_skeleton;
    const double predicted_thickness = covered ? static_cast<double>(predicted) / predicted_skeleton : 0;
    return thickness > 0 ? 1 - std::fabs(predicted_thickness - thickness) / thickness : 0;
  }
};

// Labels below 0 have no loss; those above 1 are vessels.
template <typename Dtype>
double ForwardWeight(Dtype label) {
  return label == kVoid ? 0 : label == 0 ? 0.1 : label > 0 ? 0.9 : 0;
}

template <typename Dtype>
double BackwardWeight(Dtype label, Dtype id) {
  if (label == kVoid) return 0;
  if (label > 0) return 0.8;
  if (id != 0) return 0.35;
  return label == 0 ? 0.2 : 0;
}

template <typename Dtype>
int CountLabels(int pixels, const Dtype* target) {
  return pixels - static_cast<int>(std::count(target, target + pixels, static_cast<Dtype>(kVoid)));
}

}  // namespace

template <typename Dtype>
void SoftmaxSegmentLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::Reshape(bottom, top);
  CHECK_EQ(bottom[0]->num_axes(), 4) << this->type() << " takes scores of shape 1 x 2 x height x width.";
  CHECK_EQ(bottom[0]->shape(0), 1) << this->type() << " takes one image at a time.";
  CHECK_EQ(bottom[0]->shape(1), 2) << this->type() << " takes scores of background and vessel.";
  const int pixels = bottom[0]->count(2);
  CHECK_EQ(bottom[1]->count(), pixels) << this->type() << " needs one plane of labels.";
  CHECK_EQ(bottom[2]->count(), pixels) << this->type() << " needs one plane of ids.";
  background_probability_.resize(pixels);
  vessel_probability_.resize(pixels);
  segment_weight_.resize(pixels);
}

template <typename Dtype>
void SoftmaxSegmentLossLayer<Dtype>::Softmax(const Dtype* background, const Dtype* vessel) {
  for (size_t i = 0; i < vessel_probability_.size(); ++i) {
    const Dtype largest = std::max(background[i], vessel[i]);
    const Dtype of_background = std::exp(background[i] - largest), of_vessel = std::exp(vessel[i] - largest);
    background_probability_[i] = static_cast<float>(of_background / (of_background + of_vessel));
    vessel_probability_[i] = static_cast<float>(of_vessel / (of_background + of_vessel));
  }
}

// 2 - similarity in the range of a segment, 2 on false alarms outside of all ranges, else 1.
template <typename Dtype>
void SoftmaxSegmentLossLayer<Dtype>::WeighSegments(int height, int width, const Dtype* target, const Dtype* ids) {
  const int pixels = height * width;
  vector<bool> predicted(pixels);
  for (int i = 0; i < pixels; ++i) predicted[i] = vessel_probability_[i] >= 0.5f;
  vector<bool> skeleton = predicted;
  rarepixel::Thin(height, width, &skeleton);

  const Dtype largest = pixels > 0 ? std::max(*std::max_element(ids, ids + pixels), Dtype(0)) : Dtype(0);
  CHECK_LT(largest, kMostIds) << this->type() << " got an id that is too large.";
  const int most = static_cast<int>(largest);
  vector<int> segment_of(pixels);  // 0 is none: an id of skeletons alone, above all others, is one of them
  vector<Segment> segments(most + 1);
  for (int i = 0; i < pixels; ++i) {
    const Dtype id = std::fabs(ids[i]);
    segment_of[i] = id <= most && id == std::floor(id) ? static_cast<int>(id) : 0;
    Segment& segment = segments[segment_of[i]];
    segment.annotated += target[i];
    segment.annotated_skeleton += ids[i] < 0;
    segment.predicted += predicted[i];
    segment.predicted_skeleton += skeleton[i];
  }

  vector<float> similarity(most + 1, 1.0f);
  for (int id = 1; id <= most; ++id) {
    if (segments[id].annotated_skeleton > 0) similarity[id] = static_cast<float>(segments[id].Similarity());
  }
  for (int i = 0; i < pixels; ++i) {
    const bool false_alarm = predicted[i] && ids[i] == 0 && target[i] != 1;  // a void one weighs nothing in the end
    segment_weight_[i] = 2 - (segment_of[i] > 0 ? similarity[segment_of[i]] : false_alarm ? 0.0f : 1.0f);
  }
}

template <typename Dtype>
void SoftmaxSegmentLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int height = bottom[0]->shape(2), width = bottom[0]->shape(3), pixels = height * width;
  const Dtype* scores = bottom[0]->cpu_data();
  const Dtype* target = bottom[1]->cpu_data();
  Softmax(scores, scores + pixels);
  WeighSegments(height, width, target, bottom[2]->cpu_data());

  double loss = 0;
  for (int i = 0; i < pixels; ++i) {
    const double p = target[i] > 0 ? vessel_probability_[i] : background_probability_[i];
    loss -= ForwardWeight(target[i]) * segment_weight_[i] * std::log(std::max(p, kSmallestProbability));
  }
  top[0]->mutable_cpu_data()[0] = static_cast<Dtype>(loss / CountLabels(pixels, target));
}

template <typename Dtype>
void SoftmaxSegmentLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& /*top*/,
                                                  const vector<bool>& propagate_down,
                                                  const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1] || propagate_down[2]) LOG(FATAL) << this->type() << " has a gradient for the scores alone.";
  if (!propagate_down[0]) return;
  const int pixels = bottom[0]->count(2);
  const Dtype* target = bottom[1]->cpu_data();
  const Dtype* ids = bottom[2]->cpu_data();
  Dtype* background = bottom[0]->mutable_cpu_diff();
  Dtype* vessel = background + pixels;
  const double labels = CountLabels(pixels, target);
  for (int i = 0; i < pixels; ++i) {
    const float weight = static_cast<float>(BackwardWeight(target[i], ids[i])) * segment_weight_[i];
    const float positive = target[i] > 0;
    background[i] = static_cast<Dtype>(weight * (background_probability_[i] - (1 - positive)) / labels);
    vessel[i] = static_cast<Dtype>(weight * (vessel_probability_[i] - positive) / labels);
  }
}

INSTANTIATE_CLASS(SoftmaxSegmentLossLayer);
REGISTER_LAYER_CLASS(SoftmaxSegmentLoss);

}  // namespace caffe
