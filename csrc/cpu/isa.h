// Which instruction set the CPU kernels use: the best one that this machine has, or the one that RAREPIXEL_CPU_ISA
// names.
#pragma once

#include "kernels.h"

namespace rarepixel {

enum class Isa { kBaseline, kAvx2, kAvx512 };

Isa current_isa();
const char* isa_name(Isa isa);

template <class Loss>
Kernels<Loss> kernels_for_this_machine() {
#if defined(__x86_64__)
  switch (current_isa()) {
    case Isa::kAvx512: return avx512::kernels<Loss>();
    case Isa::kAvx2: return avx2::kernels<Loss>();
    case Isa::kBaseline: break;
  }
#endif
  return baseline::kernels<Loss>();
}

template <class Loss>
ClassKernels<Loss> class_kernels_for_this_machine() {
#if defined(__x86_64__)
  switch (current_isa()) {
    case Isa::kAvx512: return avx512::class_kernels<Loss>();
    case Isa::kAvx2: return avx2::class_kernels<Loss>();
    case Isa::kBaseline: break;
  }
#endif
  return baseline::class_kernels<Loss>();
}

SelectKernels select_kernels_for_this_machine(DType logits);
SegmentKernels segment_kernels_for_this_machine();

}  // namespace rarepixel
