#include <cmath>
#include <limits>

#include "caffe/util/math_functions.hpp"

namespace caffe {

std::mt19937& Caffe::generator() {
  static std::mt19937 generator{std::random_device{}()};
  return generator;
}

template <typename Dtype>
void caffe_rng_uniform(int n, Dtype a, Dtype b, Dtype* r) {
  CHECK_GE(n, 0);
  CHECK_LE(a, b);
  // One word of the generator a number, in float as in double. The end that must not be reached is just beyond b.
  const Dtype end = std::nextafter(b, std::numeric_limits<Dtype>::max());
  const Dtype words = 4294967296.0;
  for (int i = 0; i < n; ++i) {
    do {
      r[i] = static_cast<Dtype>(Caffe::generator()()) / words * (end - a) + a;
    } while (r[i] >= end);
  }
}

template void caffe_rng_uniform<float>(int, float, float, float*);
template void caffe_rng_uniform<double>(int, double, double, double*);

}  // namespace caffe
