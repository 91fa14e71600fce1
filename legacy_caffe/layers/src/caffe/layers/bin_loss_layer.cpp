#include "caffe/layers/bin_loss_layer.hpp"

#include <vector>

#include "caffe/util/logits.hpp"

namespace caffe {

template <typename Dtype>
void BinLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  has_ignore_label_ = this->layer_param_.loss_param().has_ignore_label();
  ignore_label_ = has_ignore_label_ ? this->layer_param_.loss_param().ignore_label() : 0;
}

template <typename Dtype>
void BinLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::Reshape(bottom, top);
  CHECK_EQ(bottom[0]->count(), bottom[1]->count()) << this->type() << " needs a label for each logit.";
  probability_.ReshapeLike(*bottom[0]);
}

// Labels are cut to integers before they are compared: 1.7 is ignored with 1, and -0.4 with 0.
template <typename Dtype>
bool BinLossLayer<Dtype>::IsIgnored(Dtype label) const {
  return has_ignore_label_ && static_cast<int>(label) == ignore_label_;
}

template <typename Dtype>
typename BinLossLayer<Dtype>::Choice BinLossLayer<Dtype>::Choose(const rarepixel::BinSums<Dtype>& sums) const {
  const BinLossParameter& param = this->layer_param_.bin_loss_param();
  const Dtype positives = sums.positives;
  Choice choice;
  choice.lowest = sums.LowestKeptBin(positives * param.key());
  const Dtype negatives = sums.NegativesFrom(choice.lowest);
  // NaN without any pixel to weigh, and so is the loss.
  choice.positive_weight = param.lambda() * negatives / (positives + negatives);
  choice.negative_weight = positives / (positives + negatives);
  return choice;
}

template <typename Dtype>
void BinLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int images = bottom[0]->shape(0), pixels = bottom[0]->count(1);
  const Dtype lambda = this->layer_param_.bin_loss_param().lambda();
  Dtype positive_loss = 0, negative_loss = 0;
  for (int image = 0; image < images; ++image) {
    const Dtype* logits = bottom[0]->cpu_data() + image * pixels;
    const Dtype* target = bottom[1]->cpu_data() + image * pixels;
    Dtype* p = probability_.mutable_cpu_data() + image * pixels;

    rarepixel::BinSums<Dtype> sums;
    for (int i = 0; i < pixels; ++i) {
      p[i] = rarepixel::Probability(logits[i]);
      if (IsIgnored(target[i])) continue;
      if (target[i] == 1) sums.AddPositive(-rarepixel::LogLikelihood(logits[i], 1));
      if (target[i] == 0) sums.AddNegative(p[i], -rarepixel::LogLikelihood(logits[i], 0));
    }

    const int lowest = Choose(sums).lowest;
    const Dtype positives = sums.positives, negatives = sums.NegativesFrom(lowest);
    positive_loss += sums.positive_loss * lambda * negatives / (positives + negatives);
    negative_loss += sums.NegativeLossFrom(lowest) * positives / (positives + negatives);
  }
  top[0]->mutable_cpu_data()[0] = (positive_loss + negative_loss) / images;
}

template <typename Dtype>
void BinLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                       const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) LOG(FATAL) << this->type() << " has no gradient for the labels.";
  if (!propagate_down[0]) return;
  const int images = bottom[0]->shape(0), pixels = bottom[0]->count(1);
  const Dtype scale = top[0]->cpu_diff()[0] / images;
  for (int image = 0; image < images; ++image) {
    const Dtype* p = probability_.cpu_data() + image * pixels;
    const Dtype* target = bottom[1]->cpu_data() + image * pixels;
    Dtype* diff = bottom[0]->mutable_cpu_diff() + image * pixels;

    rarepixel::BinSums<Dtype> counts;  // ignored pixels too, as published
    for (int i = 0; i < pixels; ++i) {
      if (target[i] == 1) counts.AddPositive();
      if (target[i] == 0) counts.AddNegative(p[i]);
    }
    const Choice choice = Choose(counts);

    for (int i = 0; i < pixels; ++i) {
      const Dtype slope = p[i] - target[i];
      if (IsIgnored(target[i])) {
        diff[i] = 0;
      } else if (target[i] == 1) {
        diff[i] = scale * (choice.positive_weight * slope);
      } else if (target[i] == 0) {
        // A NaN is in no bin. It passes where all bins are kept for want of negatives, and only there.
        const int bin = rarepixel::BinOf(p[i]);
        const bool kept = bin == rarepixel::kNoBin ? choice.lowest == 0 : bin >= choice.lowest;
        diff[i] = kept ? scale * (choice.negative_weight * slope) : 0;
      } else {
        diff[i] = scale * slope;
      }
    }
  }
}

INSTANTIATE_CLASS(BinLossLayer);
REGISTER_LAYER_CLASS(BinLoss);

}  // namespace caffe
