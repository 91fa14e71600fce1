#ifndef CAFFE_BLOB_HPP_
#define CAFFE_BLOB_HPP_

#include "caffe/common.hpp"

namespace caffe {

// Data and gradient of one shape, zeros at first.
template <typename Dtype>
class Blob {
 public:
  Blob() : count_(0) {}
  explicit Blob(const vector<int>& shape) : count_(0) { Reshape(shape); }
  Blob(int num, int channels, int height, int width) : count_(0) { Reshape(num, channels, height, width); }

  void Reshape(int num, int channels, int height, int width) { Reshape(vector<int>{num, channels, height, width}); }
  void Reshape(const vector<int>& shape);
  void ReshapeLike(const Blob& other) { Reshape(other.shape()); }

  const vector<int>& shape() const { return shape_; }
  int shape(int index) const { return shape_[CanonicalAxisIndex(index)]; }
  string shape_string() const;
  int num_axes() const { return static_cast<int>(shape_.size()); }
  int count() const { return count_; }
  int count(int start_axis) const { return count(start_axis, num_axes()); }
  int count(int start_axis, int end_axis) const;
  int CanonicalAxisIndex(int index) const;

  // Of the old four axes; those that are not there are 1.
  int num() const { return LegacyShape(0); }
  int channels() const { return LegacyShape(1); }
  int height() const { return LegacyShape(2); }
  int width() const { return LegacyShape(3); }
  int LegacyShape(int index) const;

  const Dtype* cpu_data() const { return data_.data(); }
  const Dtype* cpu_diff() const { return diff_.data(); }
  Dtype* mutable_cpu_data() { return data_.data(); }
  Dtype* mutable_cpu_diff() { return diff_.data(); }

 private:
  vector<int> shape_;
  int count_;
  vector<Dtype> data_, diff_;

  DISABLE_COPY_AND_ASSIGN(Blob);
};

}  // namespace caffe

#endif  // CAFFE_BLOB_HPP_
