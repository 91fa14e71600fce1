#ifndef CAFFE_UTIL_THINNING_HPP_
#define CAFFE_UTIL_THINNING_HPP_

#include <vector>

namespace caffe {
namespace rarepixel {

// Thins a binary image of height * width pixels until nothing changes (Guo and Hall, "Parallel thinning with
// two-subiteration algorithms", CACM 1989; MATLAB's bwmorph(..., 'thin', Inf)).
void Thin(int height, int width, std::vector<bool>* image);

}  // namespace rarepixel
}  // namespace caffe

#endif  // CAFFE_UTIL_THINNING_HPP_
