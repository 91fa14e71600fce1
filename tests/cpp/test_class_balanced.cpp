// A made-up loss on top of ClassBalanced that has a coefficient of its own: weights, settle and the table make room for it.
#include "class_balanced.h"

#include "check.h"

namespace rarepixel::test {
namespace {

// l = z^2 / 2, and the slope is `tilt` times its derivative; tilt is the mean loss of a positive.
struct Tilted : ClassBalanced {
  enum Coefficient { kTilt = ClassBalanced::kNumCoefficients, kNumCoefficients };

  template <class V>
  RAREPIXEL_INLINE void accumulate(const Pixel<V>& pixel, V (&sums)[kNumSums]) const {
    const V z = negated_margin(pixel);
    add(pixel, pixel.counts, V(0.5) * z * z, sums);
  }

  RAREPIXEL_INLINE Settled<kNumCoefficients> settle(const double* sums) const {
    return with_further(ClassBalanced::settle(sums), {sums[kPositiveLoss] / sums[kPositives]});
  }

  template <class V>
  RAREPIXEL_INLINE V gradient(const Pixel<V>& pixel, const V (&coefficients)[kNumCoefficients]) const {
    return weighted(pixel, coefficients[kTilt] * negated_margin(pixel), coefficients);
  }
};

void test_a_further_coefficient() {
  using Table = RegionTable<Tilted>;
  check(Table::kColumns == RegionTable<ClassBalanced>::kColumns + 1, "a column more", Table::kColumns);

  const Tilted loss;
  double row[Table::kColumns] = {};
  double(&sums)[Tilted::kNumSums] = reinterpret_cast<double(&)[Tilted::kNumSums]>(row);
  const Pixel<double> pixels[] = {
      {2, true, true}, {-4, false, true}, {1, false, true}, {3, false, true}, {9, true, false}};
  for (const Pixel<double>& pixel : pixels) loss.accumulate(pixel, sums);
  check(settle_group(loss, row, 1, Reduction::kSum, 1) == 0.75 * 2 + 0.25 * (8 + 0.5 + 4.5), "value");

  double coefficients[Tilted::kNumCoefficients];
  for (int i = 0; i < Tilted::kNumCoefficients; ++i) coefficients[i] = row[Table::kCoefficients + i];
  check(coefficients[Tilted::kPositiveWeight] == 0.75, "weight of positives");
  check(coefficients[Tilted::kNegativeWeight] == 0.25, "weight of negatives");
  check(coefficients[Tilted::kTilt] == 2, "the loss's own", coefficients[Tilted::kTilt]);
  check(row[Table::kScale] == 1, "the scale comes behind it");
  check(loss.gradient(pixels[0], coefficients) == -0.75 * 2 * -2, "gradient of a positive");
  check(loss.gradient(pixels[1], coefficients) == 0.25 * 2 * -4, "gradient of a negative");
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  rarepixel::test::test_a_further_coefficient();
  return rarepixel::test::check.result();
}
