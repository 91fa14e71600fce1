#ifndef CAFFE_LOSS_LAYER_HPP_
#define CAFFE_LOSS_LAYER_HPP_

#include "caffe/layer.hpp"

namespace caffe {

// From predictions and labels to one number, whose weight is 1 if the parameters give none.
template <typename Dtype>
class LossLayer : public Layer<Dtype> {
 public:
  explicit LossLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual inline int ExactNumBottomBlobs() const { return 2; }
  virtual inline int ExactNumTopBlobs() const { return 1; }
  virtual inline bool AutoTopBlobs() const { return true; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index != 1; }
};

}  // namespace caffe

#endif  // CAFFE_LOSS_LAYER_HPP_
