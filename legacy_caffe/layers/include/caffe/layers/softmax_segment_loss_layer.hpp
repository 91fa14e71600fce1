#ifndef CAFFE_SOFTMAX_SEGMENT_LOSS_LAYER_HPP_
#define CAFFE_SOFTMAX_SEGMENT_LOSS_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layers/loss_layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

// Cross-entropy that weighs vessel segments by how wrong their thickness is (Yan, Yang and Cheng, "Joint Segment-level
// and Pixel-wise Losses for Deep Learning based Retinal Vessel Segmentation", IEEE TBME 2018; a layer in Python).
//
// bottom: scores of background and vessel of one image; labels, 0 background, 1 vessel, 255 void; ids of segments, -i
//         on the annotated skeleton of segment i, i on the rest of its range, else 0.
// top:    sum over pixels that are not void of a * (2 - similarity) * -log p(label) / their number, a = 0.1 for
//         background and 0.9 for vessels.
//
// As published, the gradient has other weights, 0.2 for background, 0.35 for background in a segment's range and 0.8
// for vessels, and loss_weight does not scale it; void labels enter the annotated thickness as 255; probabilities and
// similarities are float, whatever Dtype is; without a label that is not void the loss is NaN.
template <typename Dtype>
class SoftmaxSegmentLossLayer : public LossLayer<Dtype> {
 public:
  explicit SoftmaxSegmentLossLayer(const LayerParameter& param) : LossLayer<Dtype>(param) {}
  virtual void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual inline const char* type() const { return "SoftmaxSegmentLoss"; }
  virtual inline int ExactNumBottomBlobs() const { return 3; }
  virtual inline bool AllowForceBackward(const int bottom_index) const { return bottom_index == 0; }

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                            const vector<Blob<Dtype>*>& bottom);

  void Softmax(const Dtype* background, const Dtype* vessel);
  void WeighSegments(int height, int width, const Dtype* target, const Dtype* ids);

  // One value a pixel.
  vector<float> background_probability_, vessel_probability_;
  vector<float> segment_weight_;
};

}  // namespace caffe

#endif  // CAFFE_SOFTMAX_SEGMENT_LOSS_LAYER_HPP_
