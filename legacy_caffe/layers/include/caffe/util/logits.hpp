// What the losses of logits share.
#ifndef CAFFE_UTIL_LOGITS_HPP_
#define CAFFE_UTIL_LOGITS_HPP_

#include <cmath>

namespace caffe {
namespace rarepixel {

// As SigmoidLayer computes it: in double, rounded to Dtype at the end. In float it is exactly 1 from x = 17.4 on.
template <typename Dtype>
Dtype Probability(Dtype x) {
  return static_cast<Dtype>(0.5 * std::tanh(0.5 * static_cast<double>(x)) + 0.5);
}

// log p of a positive (label 1) or log(1 - p) of a negative (label 0), p = sigmoid(x), as SigmoidCrossEntropyLossLayer
// computes it: finite for every finite x, NaN for infinite ones.
template <typename Dtype>
Dtype LogLikelihood(Dtype x, int label) {
  const int above = x >= 0;
  return x * (label - above) - std::log(1 + std::exp(x - 2 * x * above));
}

}  // namespace rarepixel
}  // namespace caffe

#endif  // CAFFE_UTIL_LOGITS_HPP_
