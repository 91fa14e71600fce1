// The five bins of equal width that the bin losses sort negatives into by their probability.
#ifndef CAFFE_UTIL_NEGATIVE_BINS_HPP_
#define CAFFE_UTIL_NEGATIVE_BINS_HPP_

namespace caffe {
namespace rarepixel {

const int kBins = 5;
const int kEveryNegative = -1;  // the lowest kept bin where no number of negatives is asked for
const int kNoBin = -2;          // the bin of a NaN

// The borders are double, whatever Dtype is: the float 0.2f is above 0.2 and stays in its bin.
inline int BinOf(double p) {
  if (p >= 0 && p < 0.2) return 0;
  if (p >= 0.2 && p < 0.4) return 1;
  if (p >= 0.4 && p < 0.6) return 2;
  if (p >= 0.6 && p < 0.8) return 3;
  if (p >= 0.8 && p <= 1) return 4;
  return kNoBin;
}

// Counts and losses of the positives and of the negatives in each bin. They are counted in Dtype, as the published
// layers do: in float up to 2^24.
template <typename Dtype>
struct BinSums {
  Dtype positives, positive_loss;
  Dtype negatives[kBins], negative_loss[kBins];

  BinSums() : positives(0), positive_loss(0) {
    for (int bin = 0; bin < kBins; ++bin) negatives[bin] = negative_loss[bin] = 0;
  }

  void AddPositive(Dtype loss = 0) {
    positives += 1;
    positive_loss += loss;
  }

  void AddNegative(Dtype p, Dtype loss = 0) {
    const int bin = BinOf(p);
    if (bin == kNoBin) return;
    negatives[bin] += 1;
    negative_loss[bin] += loss;
  }

  Dtype NegativesFrom(int lowest) const { return SumFrom(lowest, negatives); }
  Dtype NegativeLossFrom(int lowest) const { return SumFrom(lowest, negative_loss); }

  // The fewest bins, from the hardest down, that hold `wanted` negatives; all of them where none do.
  int LowestKeptBin(Dtype wanted) const {
    if (wanted == 0) return kEveryNegative;
    for (int lowest = kBins - 1; lowest > 0; --lowest) {
      if (wanted <= NegativesFrom(lowest)) return lowest;
    }
    return 0;
  }

 private:
  static Dtype SumFrom(int lowest, const Dtype* of_bin) {
    Dtype sum = 0;
    for (int bin = kBins - 1; bin >= 0 && bin >= lowest; --bin) sum += of_bin[bin];
    return sum;
  }
};

}  // namespace rarepixel
}  // namespace caffe

#endif  // CAFFE_UTIL_NEGATIVE_BINS_HPP_
