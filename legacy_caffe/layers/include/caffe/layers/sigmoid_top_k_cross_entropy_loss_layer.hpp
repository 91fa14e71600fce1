#ifndef CAFFE_SIGMOID_TOP_K_CROSS_ENTROPY_LOSS_LAYER_HPP_
#define CAFFE_SIGMOID_TOP_K_CROSS_ENTROPY_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

// Keeps the k negatives of largest loss and balances them with the positives (the first stage of Guo et al., Red-Seg,
// Journal of Software 2021, of which no layer was published).
//
// bottom: logits; labels of as many values, 1 is positive, 0 negative. The channels of an image are just more pixels.
// top:    per image b * sum over positives of -log p + (1 - b) * sum over kept negatives of -log(1 - p), with
//         b = k / (k + positives); the sum over the images divided by their number.
//
// topk_loss_param.k is a number of negatives; if it is not set, topk_loss_param.ratio is the share of an image's
// negatives, rounded half up. At least one is kept, at most all. Negatives of equal logits that do not all have a place
// share the remaining places equally. Pixels with loss_param.ignore_label count for nothing; other labels are an error.
template <typename Dtype>
class SigmoidTopKCrossEntropyLossLayer : public LossLayer<Dtype> {
 public:
  explicit SigmoidTopKCrossEntropyLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual inline const char* type() const { return "SigmoidTopKCrossEntropyLoss"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);

  int NumberToKeep(int negatives) const;
  bool IsIgnored(Dtype label) const;

  bool has_ignore_label_;
  int ignore_label_;
  Blob<Dtype> weight_;  // of each pixel, 0 where it does not count
};

}  // namespace caffe

#endif  // CAFFE_SIGMOID_TOP_K_CROSS_ENTROPY_LOSS_LAYER_HPP_
