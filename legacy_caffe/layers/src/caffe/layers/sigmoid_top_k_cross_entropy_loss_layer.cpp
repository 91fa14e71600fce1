#include "caffe/layers/sigmoid_top_k_cross_entropy_loss_layer.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "caffe/util/logits.hpp"

namespace caffe {

template <typename Dtype>
void SigmoidTopKCrossEntropyLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
                                                         const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  const SigmoidTopKCrossEntropyLossParameter& param = this->layer_param_.topk_loss_param();
  CHECK(!(param.has_k() && param.has_ratio())) << this->type() << " takes k or ratio, not both.";
  if (param.has_k()) {
    CHECK_GE(param.k(), 1u) << this->type() << " keeps at least one negative.";
  } else {
    CHECK(0 < param.ratio() && param.ratio() <= 1) << this->type() << " takes a ratio above 0, up to 1.";
  }
  has_ignore_label_ = this->layer_param_.loss_param().has_ignore_label();
  ignore_label_ = has_ignore_label_ ? this->layer_param_.loss_param().ignore_label() : 0;
}

template <typename Dtype>
void SigmoidTopKCrossEntropyLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom,
                                                      const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::Reshape(bottom, top);
  CHECK_EQ(bottom[0]->count(), bottom[1]->count()) << this->type() << " needs a label for each logit.";
  weight_.ReshapeLike(*bottom[0]);
}

template <typename Dtype>
int SigmoidTopKCrossEntropyLossLayer<Dtype>::NumberToKeep(int negatives) const {
  const SigmoidTopKCrossEntropyLossParameter& param = this->layer_param_.topk_loss_param();
  const double wanted = param.has_k() ? param.k() : std::floor(static_cast<double>(param.ratio()) * negatives + 0.5);
  return static_cast<int>(std::min<double>(std::max(wanted, 1.0), negatives));
}

template <typename Dtype>
bool SigmoidTopKCrossEntropyLossLayer<Dtype>::IsIgnored(Dtype label) const {
  return has_ignore_label_ && label == ignore_label_;
}

template <typename Dtype>
void SigmoidTopKCrossEntropyLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
                                                          const vector<Blob<Dtype>*>& top) {
  const int images = bottom[0]->shape(0), pixels = bottom[0]->count(1);
  double loss = 0;
  for (int image = 0; image < images; ++image) {
    const Dtype* logits = bottom[0]->cpu_data() + image * pixels;
    const Dtype* target = bottom[1]->cpu_data() + image * pixels;
    Dtype* weight = weight_.mutable_cpu_data() + image * pixels;

    int positives = 0;
    vector<Dtype> negatives;  // their logits: the loss log(1 + exp(x)) grows with them
    bool has_nan = false;
    for (int i = 0; i < pixels; ++i) {
      if (IsIgnored(target[i])) continue;
      CHECK(target[i] == 0 || target[i] == 1) << this->type() << " takes labels 0 and 1, got " << target[i] << ".";
      has_nan = has_nan || std::isnan(logits[i]);
      positives += target[i] == 1;
      if (target[i] == 0) negatives.push_back(logits[i]);
    }
    CHECK(!has_nan) << this->type() << " got a NaN logit, which has no rank.";

    // The smallest kept logit, how many are above it, and how many more places there are for its equals.
    const int kept = NumberToKeep(static_cast<int>(negatives.size()));
    Dtype threshold = 0;
    double share_of_equals = 0;
    if (kept > 0) {
      std::nth_element(negatives.begin(), negatives.begin() + (kept - 1), negatives.end(), std::greater<Dtype>());
      threshold = negatives[kept - 1];
      int above = 0, equal = 0;
      for (size_t i = 0; i < negatives.size(); ++i) {
        above += negatives[i] > threshold;
        equal += negatives[i] == threshold;
      }
      share_of_equals = static_cast<double>(kept - above) / equal;
    }

    const double counted = std::max(kept + positives, 1);
    const double positive_weight = kept / counted, negative_weight = positives / counted;
    for (int i = 0; i < pixels; ++i) {
      const bool ignored = IsIgnored(target[i]), positive = target[i] == 1;
      const double share = logits[i] > threshold ? 1 : logits[i] == threshold ? share_of_equals : 0;
      const double w = ignored ? 0 : positive ? positive_weight : share * negative_weight;
      weight[i] = static_cast<Dtype>(w);
      if (w > 0) loss -= w * rarepixel::LogLikelihood(static_cast<double>(logits[i]), positive);
    }
  }
  top[0]->mutable_cpu_data()[0] = static_cast<Dtype>(images > 0 ? loss / images : 0);
}

template <typename Dtype>
void SigmoidTopKCrossEntropyLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
                                                           const vector<bool>& propagate_down,
                                                           const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) LOG(FATAL) << this->type() << " has no gradient for the labels.";
  if (!propagate_down[0]) return;
  const Dtype* logits = bottom[0]->cpu_data();
  const Dtype* target = bottom[1]->cpu_data();
  const Dtype* weight = weight_.cpu_data();
  const double scale = static_cast<double>(top[0]->cpu_diff()[0]) / std::max(bottom[0]->shape(0), 1);
  Dtype* diff = bottom[0]->mutable_cpu_diff();
  for (int i = 0; i < bottom[0]->count(); ++i) {
    // p - 1 = -sigmoid(-x): nothing cancels.
    const double x = logits[i];
    const double slope = target[i] == 1 ? -1 / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
    diff[i] = static_cast<Dtype>(weight[i] > 0 ? scale * weight[i] * slope : 0);
  }
}

INSTANTIATE_CLASS(SigmoidTopKCrossEntropyLossLayer);
REGISTER_LAYER_CLASS(SigmoidTopKCrossEntropyLoss);

}  // namespace caffe
