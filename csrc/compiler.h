// What the shared headers need to know of the compiler they are read by.
//
// The headers of this folder are compiled once for the GPU and once for every CPU instruction set. Their functions are
// inlined everywhere, so that no instruction set leaves a weak function behind that the linker could hand to another.
#pragma once

#if defined(__CUDACC__)
#define RAREPIXEL_INLINE __host__ __device__ __forceinline__
#define RAREPIXEL_DEVICE_CODE 1
#define RAREPIXEL_UNROLL _Pragma("unroll")
#else
#define RAREPIXEL_INLINE [[gnu::always_inline]] inline
#define RAREPIXEL_DEVICE_CODE 0
#define RAREPIXEL_UNROLL _Pragma("GCC unroll 32")
#endif
