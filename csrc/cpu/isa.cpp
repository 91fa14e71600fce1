#include "isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace rarepixel {
namespace {

bool machine_has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
  switch (isa) {
    case Isa::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case Isa::kAvx2: return avx2;
    case Isa::kBaseline: return true;
  }
#endif
  return isa == Isa::kBaseline;
}

Isa choose_isa() {
  const char* wanted = std::getenv("RAREPIXEL_CPU_ISA");
#if defined(__x86_64__)
  if (wanted != nullptr && wanted == std::string("sse2")) wanted = "baseline";  // what every such processor has
#endif
  for (const Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kBaseline}) {
    if (wanted != nullptr && wanted != std::string(isa_name(isa))) continue;
    if (machine_has(isa)) return isa;
    if (wanted != nullptr) {
      throw std::runtime_error(std::string("RAREPIXEL_CPU_ISA=") + wanted + ": this processor does not have it");
    }
  }
  throw std::runtime_error(std::string("RAREPIXEL_CPU_ISA: expected avx512, avx2 or baseline, got ") + wanted);
}

}  // namespace

Isa current_isa() {
  static const Isa isa = choose_isa();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512: return "avx512";
    case Isa::kAvx2: return "avx2";
    default: return "baseline";
  }
}

}  // namespace rarepixel
