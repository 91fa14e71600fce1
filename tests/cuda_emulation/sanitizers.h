// The sanitizers' interfaces, as functions that do nothing where there is no sanitizer.
//
// The emulation itself is compiled without them, as its own work is nobody's data; CMake says which the kernels have.
#pragma once

#include <cstddef>

#if defined(EMULATION_SANITIZES_ADDRESSES)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(EMULATION_SANITIZES_THREADS)
#include <sanitizer/tsan_interface.h>
#endif

namespace emulation::sanitizers {

// ---- Addresses: what may be touched ----

inline void allow([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(EMULATION_SANITIZES_ADDRESSES)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}
inline void forbid([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(EMULATION_SANITIZES_ADDRESSES)
  __asan_poison_memory_region(memory, bytes);
#endif
}

// ---- Threads: what happens before what ----

// What was done before release(&x) is seen after acquire(&x).
inline void release([[maybe_unused]] void* at) {
#if defined(EMULATION_SANITIZES_THREADS)
  __tsan_release(at);
#endif
}
inline void acquire([[maybe_unused]] void* at) {
#if defined(EMULATION_SANITIZES_THREADS)
  __tsan_acquire(at);
#endif
}

}  // namespace emulation::sanitizers
