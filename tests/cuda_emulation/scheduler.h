// Runs a CUDA kernel on one thread of a CPU: a fiber a CUDA thread, one block at a time.
//
// A thread runs until it has to wait for others: lockstep is only where the program asks for it. Which of the threads
// that could go on goes on, and which block comes next, is the order's choice, so that what holds by luck under one order
// fails under another. Shared memory is full of rubbish when a block begins, and so is new global memory (runtime.cpp).
//
// A launch throws std::runtime_error, with kernel, file and line, where a GPU would hang or be undefined: threads at
// different barriers, some that wait for others that have left, a lane that is not in its own mask, a shuffle from outside
// of the mask, more shared memory than a block may have.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace emulation {

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

using Line = std::source_location;

// ---- What kernels call ----

struct Coordinates {
  dim3 thread, block, block_size, grid;
};
inline Coordinates here;  // of the thread that runs

inline unsigned lane() { return here.thread.x % 32; }

// All threads of the block; returns how many came with a predicate that is true.
int block_barrier(bool predicate, const Line& line);

enum class Collective { kSyncWarp, kBallot, kMatch, kShuffle };

// The lanes of `mask`, which have to meet at the same line; `argument` is the lane that a shuffle reads.
std::uint64_t collective(Collective what, unsigned mask, std::uint64_t value, int argument, const Line& line);

template <class T>
std::uint64_t bits_of(const T& value) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T shuffle(unsigned mask, T value, int from, const Line& line) {
  const std::uint64_t bits = collective(Collective::kShuffle, mask, bits_of(value), from, line);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// For the sanitizer of threads; everything else is in order here as it is. What a thread did before a fence is seen, from
// an atomic access that follows it, by those that fence after their own access to the same address.
void fence();
void atomic_access(void* at);

// A variable of the block's shared memory. Each place in the source has one, and each instance of a template there: the
// type of `place`, a lambda, tells them apart.
void* shared_memory(const void* key, std::size_t bytes);

template <class T, class Place>
T& shared(Place) {
  static const char key = 0;
  return *static_cast<T*>(shared_memory(&key, sizeof(T)));
}

// ---- What the host calls ----

void run_grid(const char* kernel, dim3 grid, dim3 block, const std::function<void()>& thread);

// A launch as translate.py writes it: kernel<<<grid, block, bytes, stream>>>(arguments).
struct Launch {
  const char* kernel;
  dim3 grid, block;

  Launch(const char* name, dim3 grid_, dim3 block_, std::size_t /*bytes*/ = 0, void* /*stream*/ = nullptr)
      : kernel(name), grid(grid_), block(block_) {}

  // Arguments are evaluated once and handed to every thread by value.
  template <class Run, class... Arguments>
  void operator()(const Run& run, const Arguments&... arguments) const {
    run_grid(kernel, grid, block, [&] { run(arguments...); });
  }
};

// ---- What tests set and ask ----

enum class Order { kAsNumbered, kShuffled, kBackwards };

// Of threads and blocks, for all launches from now on. `strict`: for the sanitizer of threads, only barriers order
// memory, not ballots and shuffles, which the documentation of CUDA does not promise.
void configure(std::uint64_t seed, Order order, bool strict);

// The launches since the last call: "reduce_kernel settle_kernel".
std::string take_launches();

// What new memory is filled with: of every byte.
int rubbish();

}  // namespace emulation
