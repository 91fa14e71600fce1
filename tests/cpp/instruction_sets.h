// The kernels of every instruction set that the processor which runs the tests has.
#pragma once

#include <cstring>
#include <vector>

#include "cpu/kernels.h"

namespace rarepixel::test {

inline bool machine_has(const char* isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
  if (std::strcmp(isa, "avx2") == 0) return avx2;
  if (std::strcmp(isa, "avx512") == 0) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return std::strcmp(isa, "baseline") == 0;
}

template <class Table>
struct OfInstructionSet {
  const char* isa;
  Table kernels;
};

// Table is what cpu/kernels.h says.
template <class Table>
std::vector<OfInstructionSet<Table>> of_every_instruction_set() {
  std::vector<OfInstructionSet<Table>> all = {{"baseline", baseline::kernels<Table>()}};
#if defined(__x86_64__)
  if (machine_has("avx2")) all.push_back({"avx2", avx2::kernels<Table>()});
  if (machine_has("avx512")) all.push_back({"avx512", avx512::kernels<Table>()});
#endif
  return all;
}

}  // namespace rarepixel::test
