#include "caffe/layer.hpp"

#include <algorithm>

#include "caffe/layers/loss_layer.hpp"

namespace caffe {

template <typename Dtype>
void Layer<Dtype>::SetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int bottoms = static_cast<int>(bottom.size()), tops = static_cast<int>(top.size());
  if (ExactNumBottomBlobs() >= 0)
    CHECK_EQ(bottoms, ExactNumBottomBlobs()) << type() << " has another number of bottoms.";
  if (ExactNumTopBlobs() >= 0) CHECK_EQ(tops, ExactNumTopBlobs()) << type() << " has another number of tops.";
  LayerSetUp(bottom, top);
  Reshape(bottom, top);
  loss_weights_.assign(tops, 0);
  if (layer_param_.loss_weight_size() == 0) return;
  CHECK_EQ(layer_param_.loss_weight_size(), tops) << type() << " takes a loss_weight for each top, or none.";
  for (int i = 0; i < tops; ++i) {
    loss_weights_[i] = layer_param_.loss_weight(i);
    std::fill_n(top[i]->mutable_cpu_diff(), top[i]->count(), loss_weights_[i]);
  }
}

template <typename Dtype>
Dtype Layer<Dtype>::Forward(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Reshape(bottom, top);
  Forward_cpu(bottom, top);
  Dtype loss = 0;
  for (size_t i = 0; i < top.size(); ++i) {
    if (loss_weights_[i] == 0) continue;
    for (int j = 0; j < top[i]->count(); ++j) loss += loss_weights_[i] * top[i]->cpu_data()[j];
  }
  return loss;
}

template <typename Dtype>
void LossLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& /*bottom*/, const vector<Blob<Dtype>*>& /*top*/) {
  if (this->layer_param_.loss_weight_size() == 0) this->layer_param_.add_loss_weight(1);
}

template <typename Dtype>
void LossLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_EQ(bottom[0]->shape(0), bottom[1]->shape(0)) << this->type() << " needs labels for as many images.";
  top[0]->Reshape(vector<int>());
}

INSTANTIATE_CLASS(Layer);
INSTANTIATE_CLASS(LossLayer);

}  // namespace caffe
