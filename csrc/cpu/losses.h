// The losses that the CPU engine is compiled for: one include and one line each. Read last by every isa_*.cpp.
#include "../random_drop.h"
#include "engine.h"

namespace rarepixel::RAREPIXEL_ISA {

template Kernels<RandomDrop<DropSchedule::kLinear>> kernels<RandomDrop<DropSchedule::kLinear>>();
template Kernels<RandomDrop<DropSchedule::kSquare>> kernels<RandomDrop<DropSchedule::kSquare>>();
template Kernels<RandomDrop<DropSchedule::kLog>> kernels<RandomDrop<DropSchedule::kLog>>();

}  // namespace rarepixel::RAREPIXEL_ISA
