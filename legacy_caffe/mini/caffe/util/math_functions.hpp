#ifndef CAFFE_UTIL_MATH_FUNCTIONS_HPP_
#define CAFFE_UTIL_MATH_FUNCTIONS_HPP_

#include "caffe/common.hpp"

namespace caffe {

// n numbers from a to b, both included, from Caffe's generator: the very numbers that Caffe with boost draws.
template <typename Dtype>
void caffe_rng_uniform(int n, Dtype a, Dtype b, Dtype* r);

}  // namespace caffe

#endif  // CAFFE_UTIL_MATH_FUNCTIONS_HPP_
