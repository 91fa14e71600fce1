#ifndef CAFFE_MULTI_CHANNEL_BIN_SIGMOID_CROSS_ENTROPY_LOSS_LAYER_HPP_
#define CAFFE_MULTI_CHANNEL_BIN_SIGMOID_CROSS_ENTROPY_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/negative_bins.hpp"

namespace caffe {

// A bin loss for each kind of lesion, balanced over all of them (Guo et al., "L-Seg: An end-to-end unified framework
// for multi-lesion segmentation of fundus images", Neurocomputing 2019).
//
// bottom: logits, one channel a label; one plane of labels. Channel i has the pixels of label i + 1 for positives and
//         all others for negatives, whatever their label.
// top:    w+ * sum over positives of -log p + w- * sum over kept negatives of -log(1 - p), over all channels, with
//         w+ = M / (P + M) and w- = P / (P + M). It is not divided by anything.
//
// As published: M is the sum over channels of a quarter of the kept negatives, rounded down, whatever num_label is;
// where a channel keeps all bins but the lowest one, the backward pass takes that one, too; only the first image and
// the first num_label channels count, and the gradient of the rest is what the buffer held, times the loss weight; the
// parameter `ratio` does nothing. With key = 0 everything is NaN.
template <typename Dtype>
class MultiChannelBinSigmoidCrossEntropyLossLayer : public LossLayer<Dtype> {
 public:
  explicit MultiChannelBinSigmoidCrossEntropyLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual inline const char* type() const { return "MultiChannelBinSigmoidCrossEntropyLoss"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);

  int num_label_;
  Blob<Dtype> probability_;  // of the channels that count
  // From forward to backward.
  vector<int> lowest_;  // kept bin of each channel
  Dtype positive_weight_, negative_weight_;
};

}  // namespace caffe

#endif  // CAFFE_MULTI_CHANNEL_BIN_SIGMOID_CROSS_ENTROPY_LOSS_LAYER_HPP_
