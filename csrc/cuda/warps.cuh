// What the lanes of a warp do together.
#pragma once

#include <cuda_runtime.h>

namespace rarepixel::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned int kWholeWarp = 0xffffffffu;

template <class Real>
__device__ double warp_sum(Real value) {
  double sum = static_cast<double>(value);
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, distance);
  return sum;  // the same in every lane
}

}  // namespace rarepixel::cuda
