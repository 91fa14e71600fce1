#include "caffe/util/thinning.hpp"

#include <algorithm>

namespace caffe {
namespace rarepixel {

namespace {

// Whether a subiteration deletes a pixel, from its eight neighbours: x[1] is the eastern one, and on against the clock;
// x[9] is x[1] again.
bool Deletes(const bool* x, bool second) {
  int runs = 0, pairs = 0, other_pairs = 0;
  for (int i = 1; i < 9; i += 2) {
    runs += !x[i] && (x[i + 1] || x[i + 2]);
    pairs += x[i] || x[i + 1];
    other_pairs += x[i + 1] || x[i + 2];
  }
  const int fewer = std::min(pairs, other_pairs);
  const bool stays = second ? (x[6] || x[7] || !x[4]) && x[5] : (x[2] || x[3] || !x[8]) && x[1];
  return runs == 1 && 2 <= fewer && fewer <= 3 && !stays;
}

}  // namespace

void Thin(int height, int width, std::vector<bool>* image) {
  // A frame of background spares every look whether a neighbour is there.
  const int stride = width + 2;
  std::vector<bool> framed(static_cast<std::size_t>(stride) * (height + 2));
  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column) {
      framed[(row + 1) * stride + column + 1] = (*image)[row * width + column];
    }
  }
  const int around[10] = {0, 1, 1 - stride, -stride, -1 - stride, -1, stride - 1, stride, stride + 1, 1};

  bool changes = true;
  while (changes) {
    changes = false;
    for (int second = 0; second < 2; ++second) {
      std::vector<int> deleted;  // all at once, from what stood before
      for (int at = stride; at < stride * (height + 1); ++at) {
        if (!framed[at]) continue;
        bool x[10];
        for (int i = 1; i < 10; ++i) x[i] = framed[at + around[i]];
        if (Deletes(x, second == 1)) deleted.push_back(at);
      }
      for (std::size_t i = 0; i < deleted.size(); ++i) framed[deleted[i]] = false;
      changes = changes || !deleted.empty();
    }
  }

  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column) {
      (*image)[row * width + column] = framed[(row + 1) * stride + column + 1];
    }
  }
}

}  // namespace rarepixel
}  // namespace caffe
