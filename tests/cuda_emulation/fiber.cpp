#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "sanitizers.h"

#if !defined(__x86_64__)
#error "The switch of stacks below is written for x86-64."
#endif

// Keeps what a function must keep (System V ABI), swaps stacks, and goes on where the other stack was left. swapcontext
// of the C library would do, but for a system call each time, which is most of the time then.
extern "C" void rarepixel_emulation_switch(void** from, void* to);
asm(R"(
.text
.type rarepixel_emulation_switch, @function
rarepixel_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size rarepixel_emulation_switch, . - rarepixel_emulation_switch
)");

namespace emulation {
namespace {

constexpr std::size_t kPage = 4096, kStack = 128 << 10;
// Stacks begin at other lines of their pages: else those of a block would push each other out of the cache.
constexpr std::size_t kStagger = 9 * 64, kStaggers = 64;
constexpr int kSavedRegisters = 6;

// The scheduler's side of the switch.
struct {
  void* stack_pointer = nullptr;
  void* of_thread_sanitizer = nullptr;
  [[maybe_unused]] void* of_address_sanitizer = nullptr;
  [[maybe_unused]] const void* stack = nullptr;
  [[maybe_unused]] std::size_t stack_bytes = 0;
} scheduler;

void (*body_to_start)() = nullptr;

void begin() {
#if defined(EMULATION_SANITIZES_ADDRESSES)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.stack_bytes);
#endif
  body_to_start();
  __builtin_trap();  // it has left
}

}  // namespace

Fiber::Fiber() {
  static std::size_t made = 0;
  stagger_ = made++ % kStaggers * kStagger;
  void* const memory =
      mmap(nullptr, kPage + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
#if defined(EMULATION_SANITIZES_THREADS)
  of_thread_sanitizer_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(EMULATION_SANITIZES_THREADS)
  __tsan_destroy_fiber(of_thread_sanitizer_);
#endif
  munmap(memory_, kPage + kStack);
}

void Fiber::start(void (*body)()) {
  body_to_start = body;
  sanitizers::allow(memory_ + kPage, kStack);
  // As the switch leaves a stack, the return address above the registers; 16 bytes aligned less 8, as after a call.
  void** top = reinterpret_cast<void**>(memory_ + kPage + kStack - stagger_) - 1;
  *--top = reinterpret_cast<void*>(&begin);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  stack_pointer_ = top;
  of_address_sanitizer_ = nullptr;
}

void Fiber::resume() {
#if defined(EMULATION_SANITIZES_ADDRESSES)
  __sanitizer_start_switch_fiber(&scheduler.of_address_sanitizer, memory_ + kPage, kStack);
#endif
#if defined(EMULATION_SANITIZES_THREADS)
  scheduler.of_thread_sanitizer = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(of_thread_sanitizer_, __tsan_switch_to_fiber_no_sync);
#endif
  rarepixel_emulation_switch(&scheduler.stack_pointer, stack_pointer_);
#if defined(EMULATION_SANITIZES_ADDRESSES)
  __sanitizer_finish_switch_fiber(scheduler.of_address_sanitizer, nullptr, nullptr);
#endif
}

void Fiber::to_scheduler([[maybe_unused]] bool for_good) {
#if defined(EMULATION_SANITIZES_ADDRESSES)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &of_address_sanitizer_, scheduler.stack, scheduler.stack_bytes);
#endif
#if defined(EMULATION_SANITIZES_THREADS)
  __tsan_switch_to_fiber(scheduler.of_thread_sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
  rarepixel_emulation_switch(&stack_pointer_, scheduler.stack_pointer);
#if defined(EMULATION_SANITIZES_ADDRESSES)
  __sanitizer_finish_switch_fiber(of_address_sanitizer_, &scheduler.stack, &scheduler.stack_bytes);
#endif
}

void Fiber::leave() {
  to_scheduler(true);
  __builtin_trap();
}

}  // namespace emulation
