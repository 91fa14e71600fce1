// Between the two halves of a test of lanes: one number at a time, compiled for the compiler's default target.
#pragma once

namespace rarepixel::test {

template <class T>
struct ScalarMath {
  static T fma(T a, T b, T c);
  static T exp_negative(T x);  // exp(-|x|)
  static T softplus(T x);
  static T sigmoid(T x);
};

int run_lanes();

}  // namespace rarepixel::test
