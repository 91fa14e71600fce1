#include "caffe/layers/multi_channel_bin_sigmoid_cross_entropy_loss_layer.hpp"

#include <cmath>
#include <vector>

#include "caffe/util/logits.hpp"

namespace caffe {

template <typename Dtype>
void MultiChannelBinSigmoidCrossEntropyLossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom,
                                                                    const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  num_label_ = this->layer_param_.mcbsce_loss_param().num_label();
  CHECK_GE(num_label_, 1) << this->type() << " needs a label.";
}

template <typename Dtype>
void MultiChannelBinSigmoidCrossEntropyLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom,
                                                                 const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::Reshape(bottom, top);
  CHECK_GE(bottom[0]->shape(0), 1) << this->type() << " takes the first image, and there is none.";
  CHECK_GE(bottom[0]->shape(1), num_label_) << this->type() << " needs a channel of logits for each label.";
  CHECK_EQ(bottom[0]->count(2), bottom[1]->count(1)) << this->type() << " needs one plane of labels.";
  vector<int> shape = bottom[0]->shape();
  shape[0] = 1;
  shape[1] = num_label_;
  probability_.Reshape(shape);
}

template <typename Dtype>
void MultiChannelBinSigmoidCrossEntropyLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
                                                                     const vector<Blob<Dtype>*>& top) {
  const int pixels = bottom[0]->count(2);
  const Dtype key = static_cast<Dtype>(this->layer_param_.mcbsce_loss_param().key());
  const Dtype* target = bottom[1]->cpu_data();

  lowest_.assign(num_label_, 0);
  vector<Dtype> positive_loss(num_label_), negative_loss(num_label_);
  Dtype positives = 0, quarter_of_negatives = 0;
  for (int channel = 0; channel < num_label_; ++channel) {
    const Dtype* logits = bottom[0]->cpu_data() + channel * pixels;
    Dtype* p = probability_.mutable_cpu_data() + channel * pixels;
    rarepixel::BinSums<Dtype> sums;
    for (int i = 0; i < pixels; ++i) {
      p[i] = rarepixel::Probability(logits[i]);
      if (target[i] == channel + 1) {
        sums.AddPositive(-rarepixel::LogLikelihood(logits[i], 1));
      } else {
        sums.AddNegative(p[i], -rarepixel::LogLikelihood(logits[i], 0));
      }
    }
    const Dtype wanted = sums.positives * key;
    const int lowest = sums.LowestKeptBin(wanted);
    lowest_[channel] = lowest;
    positives += wanted / key;  // as published: NaN for key = 0
    quarter_of_negatives += std::floor(sums.NegativesFrom(lowest) / 4);
    positive_loss[channel] = sums.positive_loss;
    negative_loss[channel] = sums.NegativeLossFrom(lowest);
  }

  // NaN where there is neither.
  positive_weight_ = quarter_of_negatives / (positives + quarter_of_negatives);
  negative_weight_ = positives / (positives + quarter_of_negatives);
  Dtype of_positives = 0, of_negatives = 0;
  for (int channel = 0; channel < num_label_; ++channel) {
    of_positives += positive_loss[channel] * quarter_of_negatives / (positives + quarter_of_negatives);
    of_negatives += negative_loss[channel] * positives / (positives + quarter_of_negatives);
  }
  top[0]->mutable_cpu_data()[0] = of_positives + of_negatives;
}

template <typename Dtype>
void MultiChannelBinSigmoidCrossEntropyLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
                                                                      const vector<bool>& propagate_down,
                                                                      const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) LOG(FATAL) << this->type() << " has no gradient for the labels.";
  if (!propagate_down[0]) return;
  const int pixels = bottom[0]->count(2);
  const Dtype top_diff = top[0]->cpu_diff()[0];
  const Dtype* target = bottom[1]->cpu_data();
  Dtype* diff = bottom[0]->mutable_cpu_diff();
  for (int channel = 0; channel < num_label_; ++channel) {
    // As published, the condition for the bins 1 to 4 repeats the one for 2 to 4: it is never met, all bins are taken.
    const int lowest = lowest_[channel] == 1 ? 0 : lowest_[channel];
    const Dtype* p = probability_.cpu_data() + channel * pixels;
    for (int i = 0; i < pixels; ++i) {
      const bool positive = target[i] == channel + 1;
      const int bin = rarepixel::BinOf(p[i]);
      const bool kept = bin == rarepixel::kNoBin ? lowest <= 0 : bin >= lowest;  // a NaN passes where all bins do
      Dtype& here = diff[channel * pixels + i];
      here = positive ? positive_weight_ * (p[i] - 1) : kept ? negative_weight_ * p[i] : 0;
    }
  }
  for (int i = 0; i < bottom[0]->count(); ++i) diff[i] *= top_diff;
}

INSTANTIATE_CLASS(MultiChannelBinSigmoidCrossEntropyLossLayer);
REGISTER_LAYER_CLASS(MultiChannelBinSigmoidCrossEntropyLoss);

}  // namespace caffe
