// The sanitizers' interfaces, as functions that do nothing where there is no sanitizer.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateNewMemory(const char* file, int line, const volatile void* memory, long bytes);
#endif

// The scheduler's own work is nobody's data.
#define EMULATION_UNSANITIZED __attribute__((no_sanitize("address", "thread", "undefined")))

namespace emulation::sanitizers {

// ---- Addresses: what may be touched ----

inline void allow([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
#endif
}
inline void forbid([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_POISON_MEMORY_REGION(memory, bytes);
#endif
}

// ---- Threads: what happens before what ----

// What was done before release(&x) is seen after acquire(&x).
inline void release([[maybe_unused]] void* at) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(at);
#endif
}
inline void acquire([[maybe_unused]] void* at) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(at);
#endif
}
// Whoever touched the memory before does not matter.
inline void forget([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_THREAD__)
  AnnotateNewMemory(__FILE__, __LINE__, memory, static_cast<long>(bytes));
#endif
}

}  // namespace emulation::sanitizers
