// 128-bit vectors, no more than the compiler's default target has: SSE2 on x86 (fma is emulated), NEON on Arm.
#define RAREPIXEL_ISA baseline
#include "losses.h"
