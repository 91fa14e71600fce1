// The kernels of a declaration's losses, for one instruction set: what kernels.cpp.in makes of this is all that a loss
// costs to compile.
#pragma once

#include "class_engine.h"
#include "engine.h"

namespace rarepixel::RAREPIXEL_ISA {

template <class Loss>
Kernels<Loss> kernels_of() {
  if constexpr (Loss::kSeesClasses) return {&class_scratch_bytes<Loss>, &reduce_classes<Loss>, &map_classes<Loss>};
  else return {&reduce<Loss>, &map<Loss>};
}

template <class... Losses>
void set_kernels(KernelsOfAll<LossList<Losses...>>& table) {
  ((static_cast<Kernels<Losses>&>(table) = kernels_of<Losses>()), ...);
}

template <class Table>
Table kernels() {
  Table table;
  set_kernels(table);
  return table;
}

}  // namespace rarepixel::RAREPIXEL_ISA
