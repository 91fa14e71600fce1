// What a file reads first that is compiled for 128-bit vectors, no more than the compiler's default target has: SSE2 on
// x86 (fma is emulated), NEON on Arm.
#pragma once

#define RAREPIXEL_ISA baseline
