#include "caffe/layers/sigmoid_random_drop_cross_entropy_loss_layer.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "caffe/util/logits.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void SigmoidRandomDropCrossEntropyLossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom,
                                                            const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::Reshape(bottom, top);
  CHECK_EQ(bottom[0]->count(), bottom[1]->count()) << this->type() << " needs a label for each logit.";
  CHECK_EQ(bottom[0]->shape(0), 1) << this->type() << " takes one image at a time.";
  CHECK_EQ(bottom[0]->channels(), 1) << this->type() << " takes one channel of logits.";
  probability_.ReshapeLike(*bottom[0]);
  weight_.ReshapeLike(*bottom[0]);
  uniform_.ReshapeLike(*bottom[0]);
}

template <typename Dtype>
double SigmoidRandomDropCrossEntropyLossLayer<Dtype>::DropProbability(double p) const {
  switch (this->layer_param_.randrop_loss_param().schedule_type()) {
    case SigmoidRandomDropCELossParameter::SQU: return (1 - p) * (1 - p);
    case SigmoidRandomDropCELossParameter::LOG: return 1 + std::log10(1 - p);
    default: return 1 - p;
  }
}

template <typename Dtype>
void SigmoidRandomDropCrossEntropyLossLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom,
                                                                const vector<Blob<Dtype>*>& top) {
  const int count = bottom[0]->count();
  const Dtype* logits = bottom[0]->cpu_data();
  const Dtype* target = bottom[1]->cpu_data();
  Dtype* p = probability_.mutable_cpu_data();
  Dtype* weight = weight_.mutable_cpu_data();
  Dtype* uniform = uniform_.mutable_cpu_data();

  Dtype positives = 0, negatives = 0;
  for (int i = 0; i < count; ++i) {
    p[i] = rarepixel::Probability(logits[i]);
    (target[i] == 1 ? positives : negatives) += 1;
  }

  caffe_rng_uniform<Dtype>(count, 0, 1, uniform);
  for (int i = 0; i < count; ++i) {
    if (target[i] == 0 && uniform[i] < static_cast<Dtype>(DropProbability(p[i]))) {
      p[i] = 0;
      negatives -= 1;
    }
  }

  // Without any pixel left, these are NaN and nothing takes them.
  const Dtype positive_weight = negatives / (negatives + positives);
  const Dtype negative_weight = positives / (negatives + positives);
  Dtype loss = 0;
  for (int i = 0; i < count; ++i) {
    const bool positive = target[i] == 1;
    weight[i] = positive ? positive_weight : p[i] > 0 ? negative_weight : 0;
    const Dtype q = positive ? p[i] : 1 - p[i];
    loss -= weight[i] * std::log(std::max(q, static_cast<Dtype>(FLT_MIN)));
  }
  top[0]->mutable_cpu_data()[0] = loss;
}

template <typename Dtype>
void SigmoidRandomDropCrossEntropyLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
                                                                 const vector<bool>& propagate_down,
                                                                 const vector<Blob<Dtype>*>& bottom) {
  if (propagate_down[1]) LOG(FATAL) << this->type() << " has no gradient for the labels.";
  if (!propagate_down[0]) return;
  const Dtype* target = bottom[1]->cpu_data();
  const Dtype* p = probability_.cpu_data();
  const Dtype* weight = weight_.cpu_data();
  const Dtype top_diff = top[0]->cpu_diff()[0];
  Dtype* diff = bottom[0]->mutable_cpu_diff();
  for (int i = 0; i < bottom[0]->count(); ++i) diff[i] = top_diff * (weight[i] * (p[i] - target[i]));
}

INSTANTIATE_CLASS(SigmoidRandomDropCrossEntropyLossLayer);
REGISTER_LAYER_CLASS(SigmoidRandomDropCrossEntropyLoss);

}  // namespace caffe
