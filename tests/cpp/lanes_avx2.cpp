#pragma GCC target("avx2,fma,popcnt")
#define RAREPIXEL_ISA avx2
#define RAREPIXEL_AVX2
#include "lanes.h"
