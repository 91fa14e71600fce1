// What a file reads first that is compiled for 256-bit vectors with fma. On x86 alone RAREPIXEL_ISA is defined.
#pragma once

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,popcnt")
#define RAREPIXEL_ISA avx2
#define RAREPIXEL_AVX2
#endif
