#include "caffe/blob.hpp"

#include <climits>

namespace caffe {

template <typename Dtype>
void Blob<Dtype>::Reshape(const vector<int>& shape) {
  int count = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    CHECK_GE(shape[i], 0) << "A blob has no negative dimensions.";
    if (count != 0) CHECK_LE(shape[i], INT_MAX / count) << "A blob holds at most INT_MAX values.";
    count *= shape[i];
  }
  shape_ = shape;
  count_ = count;
  data_.resize(count);
  diff_.resize(count);
}

template <typename Dtype>
string Blob<Dtype>::shape_string() const {
  std::ostringstream text;
  for (size_t i = 0; i < shape_.size(); ++i) text << shape_[i] << ' ';
  text << '(' << count_ << ')';
  return text.str();
}

template <typename Dtype>
int Blob<Dtype>::count(int start_axis, int end_axis) const {
  CHECK_LE(0, start_axis);
  CHECK_LE(start_axis, end_axis);
  CHECK_LE(end_axis, num_axes());
  int count = 1;
  for (int i = start_axis; i < end_axis; ++i) count *= shape_[i];
  return count;
}

template <typename Dtype>
int Blob<Dtype>::CanonicalAxisIndex(int index) const {
  CHECK_GE(index, -num_axes()) << "in a blob of shape " << shape_string();
  CHECK_LT(index, num_axes()) << "in a blob of shape " << shape_string();
  return index < 0 ? index + num_axes() : index;
}

template <typename Dtype>
int Blob<Dtype>::LegacyShape(int index) const {
  CHECK_LE(num_axes(), 4) << "More axes than the old names go for.";
  return index < num_axes() ? shape_[index] : 1;
}

INSTANTIATE_CLASS(Blob);

}  // namespace caffe
