// The torch half of connected components (../components.h) on the CPU: several images at a time.
#include "../components_tensors.h"

#include <torch/csrc/stable/library.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "launch.h"

namespace rarepixel::cpu {
namespace {

// Large tensors lie in memory that nobody has touched. In pages of 2 MiB it is there after a tenth of the faults' time;
// NumPy asks for them, too. It is a wish: what comes of it does not matter.
void ask_for_large_pages([[maybe_unused]] const Tensor& tensor) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kWorthwhile = 4 << 20, kPage = 4096;
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  const std::uintptr_t end = begin + 4 * tensor.numel();
  const std::uintptr_t first_page = (begin + kPage - 1) / kPage * kPage;
  if (end - begin >= kWorthwhile) madvise(reinterpret_cast<void*>(first_page), end - first_page, MADV_HUGEPAGE);
#endif
}

// Memory for the runs of one image, which is used again for the next.
class RunMemory {
 public:
  RunMemory(const Tensor& like, ComponentsProblem& problem)
      : like_(like), memory_(empty_on_device_of(like, {bytes(problem)}, ScalarType::Byte)) {
    const std::int64_t words = problem.words(), strips = problem.strips();
    problem.bits = static_cast<std::uint64_t*>(memory_.mutable_data_ptr());
    problem.starts = problem.bits + strips * problem.rows_of_strip() * words;
    problem.first_runs = reinterpret_cast<std::int32_t*>(problem.starts + strips * words);
  }

  std::int32_t* runs(std::int64_t count) {
    const std::int64_t wanted = ComponentsProblem::kMarginBefore + count + ComponentsProblem::kMarginBehind;
    if (!runs_.has_value() || runs_->numel() < wanted) {
      runs_ = empty_on_device_of(like_, {wanted}, ScalarType::Int);
      ask_for_large_pages(*runs_);
    }
    return static_cast<std::int32_t*>(runs_->mutable_data_ptr()) + ComponentsProblem::kMarginBefore;
  }

 private:
  static std::int64_t bytes(const ComponentsProblem& problem) {
    return problem.strips() * ((problem.rows_of_strip() + 1) * problem.words() * 8 + 4) + 4;
  }

  const Tensor& like_;
  Tensor memory_;
  std::optional<Tensor> runs_;
};

std::tuple<Tensor, Tensor> components(const Tensor& mask,  // [N, C, *], bool or uint8, contiguous
                                      std::int64_t connectivity) {
  const Extent extent = extent_of(mask);
  const ComponentsResult result(mask);
  ask_for_large_pages(result.labels);
  const auto* from = static_cast<const std::uint8_t*>(mask.const_data_ptr());
  const ComponentsKernels kernels = kernels_for_this_machine<ComponentsKernels>();
  const auto label_some = [&](std::int64_t first, std::int64_t last) {
    ComponentsProblem problem;
    problem.extent = extent;
    problem.connectivity = connectivity_of(connectivity);
    RunMemory memory(mask, problem);
    for (std::int64_t image = first; image < last; ++image) {
      problem.image = from + image * extent.pixels();
      problem.labels = result.labels_of(image, extent);
      problem.runs = memory.runs(kernels.find_runs(problem));
      result.counts()[image] = kernels.label(problem);
    }
  };
  if (extent.pixels() > 0) torch::stable::parallel_for(0, result.images(), 1, label_some);
  else std::fill_n(result.counts(), result.images(), 0);
  return {result.labels, result.count};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rarepixel, CPU, m) { m.impl("components", TORCH_BOX(&components)); }

}  // namespace rarepixel::cpu
