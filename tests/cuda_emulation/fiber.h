// A stack of its own for each thread of a block, and switching between them; the sanitizers are told of it.
#pragma once

#include <cstddef>

namespace emulation {

class Fiber {
 public:
  Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // The next resume() calls `body`, which must not return but leave().
  void start(void (*body)());
  // From the scheduler: goes on in the fiber until it suspends or leaves.
  void resume();
  // From the fiber: back to the scheduler.
  void suspend() { to_scheduler(false); }
  [[noreturn]] void leave();

 private:
  void to_scheduler(bool for_good);

  void* stack_pointer_ = nullptr;
  std::size_t stagger_ = 0;
  char* memory_ = nullptr;  // a page that nobody may touch, then the stack, which grows down
  void* of_thread_sanitizer_ = nullptr;
  void* of_address_sanitizer_ = nullptr;
};

}  // namespace emulation
