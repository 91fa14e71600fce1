// The CUDA engine with the results of the CPU's: how many pixels are invalid, which here the host can look up.
#pragma once

#include "csrc/cuda/launch.cuh"

namespace rarepixel {

struct EmulatedEngine : cuda::Engine {
  static constexpr bool kIsCpu = true;
  using Forward = cuda::Forward;

  template <class Declared, class Loss>
  static Forward forward(const Loss& loss, const Inputs& inputs, Reduction reduction, const Tensor& table,
                         ReduceProblem& problem) {
    Forward found = cuda::Engine::forward<Declared>(loss, inputs, reduction, table, problem);
    const double* const rows = static_cast<const double*>(table.const_data_ptr());
    for (std::int64_t row = 0; row < table.size(0); ++row) {
      const double invalid = rows[row * RegionTable<Loss>::kColumns + RegionTable<Loss>::kInvalid];
      found.invalid += static_cast<std::int64_t>(invalid);
    }
    return found;
  }

  template <class... Further>
  static std::tuple<Tensor, Tensor, Further..., std::int64_t> results(const Forward& forward,
                                                                      const std::tuple<Further...>& further) {
    return std::tuple_cat(std::tuple(forward.loss, forward.table), further, std::tuple(forward.invalid));
  }
};

}  // namespace rarepixel
