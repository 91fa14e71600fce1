// What a file reads first that is compiled for 512-bit vectors with masks in registers of their own. On x86 alone
// RAREPIXEL_ISA is defined.
#pragma once

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt,prefer-vector-width=512")
// GCC 12's own header leaves operands of masked intrinsics undefined on purpose, and warns of it (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define RAREPIXEL_ISA avx512
#define RAREPIXEL_AVX512
#endif
