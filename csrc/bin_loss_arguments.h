// The bin losses' operator arguments as losses, for both engines.
#pragma once

#include <algorithm>
#include <vector>

#include "bin_loss.h"
#include "tensors.h"

namespace rarepixel {

template <int kBins>
BinLoss<kBins> bin_loss_of(double key, double positive_weight, const std::vector<double>& borders) {
  BinLoss<kBins> loss;
  loss.key = key;
  loss.positive_weight = positive_weight;
  // Bins that were not asked for stay empty.
  std::fill(loss.borders, loss.borders + kBins, __builtin_inf());
  std::copy(borders.begin(), borders.end(), loss.borders + 1);
  return loss;
}

// Calls run(BinLoss<kBins>) with room for borders.size() + 1 bins.
template <class Run>
auto with_bin_loss(double key, double positive_weight, const std::vector<double>& borders, const Run& run) {
  STD_TORCH_CHECK(borders.size() < 16, "bin_loss: at most 15 borders, got ", borders.size());
  if (borders.size() < 5) return run(bin_loss_of<5>(key, positive_weight, borders));
  return run(bin_loss_of<16>(key, positive_weight, borders));
}

// Calls run(BinLoss<kBins>) for the loss that a table belongs to; its gradient depends on nothing but the table.
template <class Run>
auto with_bin_loss_of(const Tensor& table, const Run& run) {  // [regions, columns]
  if (table.size(1) == RegionTable<BinLoss<5>>::kColumns) return run(BinLoss<5>{});
  return run(BinLoss<16>{});
}

inline MultiChannelBin<5> multi_channel_bin_of(double key, bool like_caffe, const std::vector<double>& borders) {
  STD_TORCH_CHECK(borders.size() == 4, "multi_channel_bin: expected 4 borders, got ", borders.size());
  MultiChannelBin<5> loss;
  static_cast<BinLoss<5>&>(loss) = bin_loss_of<5>(key, 1, borders);
  loss.like_caffe = like_caffe;
  return loss;
}

}  // namespace rarepixel
