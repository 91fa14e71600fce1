// Runs lanes.h if this processor has its instruction set, and holds what it compares with.
#include "lanes_scalar.h"

#include <cmath>
#include <cstdio>

#include "instruction_sets.h"
#include "math.h"

#define RAREPIXEL_TEXT_OF(name) #name
#define RAREPIXEL_TEXT(name) RAREPIXEL_TEXT_OF(name)

namespace rarepixel::test {

template <class T>
T ScalarMath<T>::fma(T a, T b, T c) {
  return std::fma(a, b, c);
}
template <class T>
T ScalarMath<T>::exp_negative(T x) {
  return rarepixel::exp_negative(absolute(x));
}
template <class T>
T ScalarMath<T>::softplus(T x) {
  return rarepixel::softplus(x);
}
template <class T>
T ScalarMath<T>::sigmoid(T x) {
  return rarepixel::sigmoid(x);
}

template struct ScalarMath<float>;
template struct ScalarMath<double>;

}  // namespace rarepixel::test

int main() {
  const char* isa = RAREPIXEL_TEXT(RAREPIXEL_TESTED_ISA);
  if (!rarepixel::test::machine_has(isa)) {
    std::printf("skipped: this processor does not have %s\n", isa);
    return 77;
  }
  return rarepixel::test::run_lanes();
}
