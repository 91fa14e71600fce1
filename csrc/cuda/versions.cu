// Which CUDA versions meet in this library; Python looks before it uses a kernel. Needs no GPU and no driver.
#include <cuda_runtime.h>
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <tuple>

namespace rarepixel::cuda {
namespace {

// As CUDA numbers them, 13010 for 13.1: the newest that the driver supports, 0 without a driver, and the one that this
// library brings. Neither call can fail in a way that matters: what it cannot tell stays 0.
std::tuple<std::int64_t, std::int64_t> versions_op() {
  int driver = 0, runtime = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
  return {driver, runtime};
}

}  // namespace

// Defined here, not in ops.cpp: only this library can answer.
STABLE_TORCH_LIBRARY_FRAGMENT(rarepixel, m) { m.def("cuda_versions() -> (int driver, int runtime)"); }

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CompositeExplicitAutograd, m) { m.impl("cuda_versions", TORCH_BOX(&versions_op)); }

}  // namespace rarepixel::cuda
