#ifndef CAFFE_BIN_LOSS_LAYER_HPP_
#define CAFFE_BIN_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/proto/caffe.pb.h"
#include "caffe/util/negative_bins.hpp"

namespace caffe {

// Keeps the hardest negatives, by whole bins of probability, and balances them with the positives (Guo et al., "Bin
// loss for hard exudates segmentation in fundus images", Neurocomputing 2020).
//
// bottom: logits; labels of as many values, 1 is positive, 0 negative. The channels of an image are just more pixels.
// top:    per image w+ * sum over positives of -log p + w- * sum over kept negatives of -log(1 - p), with
//         w+ = lambda * n- / (n+ + n-) and w- = n+ / (n+ + n-); the sum over the images divided by their number.
//
// As published, a label beyond 0, 1 and loss_param.ignore_label has no loss but the gradient (p - label) / images, and
// the backward pass counts pixels with the ignored label, which tells if that is 0 or 1.
template <typename Dtype>
class BinLossLayer : public LossLayer<Dtype> {
 public:
  explicit BinLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual inline const char* type() const { return "BinLoss"; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);

  // What an image's loss and gradient need to know of all of its pixels.
  struct Choice {
    int lowest;
    Dtype positive_weight, negative_weight;
  };
  Choice Choose(const rarepixel::BinSums<Dtype>& sums) const;
  bool IsIgnored(Dtype label) const;

  bool has_ignore_label_;
  int ignore_label_;
  Blob<Dtype> probability_;
};

}  // namespace caffe

#endif  // CAFFE_BIN_LOSS_LAYER_HPP_
