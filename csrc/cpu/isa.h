// Which instruction set the CPU kernels use: the best that this machine has, or what RAREPIXEL_CPU_ISA names.
#pragma once

#include "kernels.h"

namespace rarepixel {

enum class Isa { kBaseline, kAvx2, kAvx512 };

Isa current_isa();
const char* isa_name(Isa isa);

// The kernels of the instruction set in use; what a Table is stands in kernels.h.
template <class Table>
Table kernels_for_this_machine() {
#if defined(__x86_64__)
  switch (current_isa()) {
    case Isa::kAvx512: return avx512::kernels<Table>();
    case Isa::kAvx2: return avx2::kernels<Table>();
    case Isa::kBaseline: break;
  }
#endif
  return baseline::kernels<Table>();
}

}  // namespace rarepixel
