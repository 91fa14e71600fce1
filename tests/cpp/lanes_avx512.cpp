#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt,prefer-vector-width=512")
// As in csrc/cpu/isa_avx512.cpp: GCC bug 105593.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define RAREPIXEL_ISA avx512
#define RAREPIXEL_AVX512
#include "lanes.h"
