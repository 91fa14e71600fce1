#ifndef CAFFE_SIGMOID_RANDOM_DROP_CROSS_ENTROPY_LOSS_LAYER_HPP_
#define CAFFE_SIGMOID_RANDOM_DROP_CROSS_ENTROPY_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

// Drops easy negatives at random and balances what is left (Guo et al., "Random drop loss for tiny object
// segmentation", ICANN 2019).
//
// bottom: logits of one image, one channel; labels, of which 1 is positive and 0 may be dropped.
// top:    -sum of w log q, q = p on positives and 1 - p elsewhere. It is not divided by anything.
//
// A negative of probability p is dropped with probability 1 - p (LINEAR), (1 - p)^2 (SQU) or 1 + log10(1 - p) (LOG, the
// default), anew at every forward pass, in the TEST phase too. Every pixel takes a number from Caffe's generator.
template <typename Dtype>
class SigmoidRandomDropCrossEntropyLossLayer : public LossLayer<Dtype> {
 public:
  explicit SigmoidRandomDropCrossEntropyLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual inline const char* type() const { return "SigmoidRandomDropCrossEntropyLoss"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);

  double DropProbability(double p) const;

  Blob<Dtype> probability_;  // 0 where a pixel was dropped
  Blob<Dtype> weight_;
  Blob<Dtype> uniform_;
};

}  // namespace caffe

#endif  // CAFFE_SIGMOID_RANDOM_DROP_CROSS_ENTROPY_LOSS_LAYER_HPP_
