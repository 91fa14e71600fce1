// The emulation's own tests: kernels that are right, and kernels at which a GPU would hang or which are right by luck.
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "cuda_runtime.h"

namespace rarepixel::test {
namespace {

using emulation::Order;

constexpr int kSeeds = 6;

void configure(int seed) {
  emulation::configure(static_cast<std::uint64_t>(seed), static_cast<Order>(seed % 3), false);
}

// Runs a kernel of no arguments under all orders; the first error, or "".
template <class Kernel>
std::string error_of(dim3 grid, dim3 block, const Kernel& kernel) {
  for (int seed = 0; seed < kSeeds; ++seed) {
    configure(seed);
    try {
      emulation::Launch("kernel", grid, block)(kernel);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  }
  return "";
}

void expect_none(const std::string& error) { check(error.empty(), "no error", error.c_str()); }

void expect(const std::string& error, const char* part) {
  check(error.find(part) != std::string::npos, part, error.c_str());
}

// The sum of 0 ... 255 over shared memory, with or without the barrier that it needs.
std::vector<int> sums_of_blocks(bool with_barrier) {
  std::vector<int> sums;
  expect_none(error_of(3, 256, [&] {
    auto& of_threads = emulation::shared<int[256]>([] {});
    of_threads[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (with_barrier) __syncthreads();
    if (threadIdx.x == 128) sums.push_back(std::accumulate(of_threads, of_threads + 256, 0));
  }));
  return sums;
}

void test_shared_memory() {
  constexpr int kSum = 255 * 128;
  check(sums_of_blocks(true) == std::vector<int>(3 * kSeeds, kSum), "a barrier is enough under every order");
  check(sums_of_blocks(false) != std::vector<int>(3 * kSeeds, kSum), "a missing barrier is seen");
  bool seen = false;
  expect_none(error_of(4, 1, [&] {
    auto& number = emulation::shared<int>([] {});
    seen = seen || number == 7;
    number = 7;
  }));
  check(!seen, "a block does not see what the one before it wrote");
  expect(error_of(1, 1, [] { emulation::shared<char[(48 << 10) + 1]>([] {}); }), "more than 48 KiB of shared memory");
}

void test_barriers() {
  expect_none(error_of(2, 64, [] {
    check(__syncthreads_count(threadIdx.x % 3 == 0) == 22, "count of predicates");
    check(__syncthreads_or(threadIdx.x == 63) == 1, "or of predicates, one true");
    check(__syncthreads_or(0) == 0, "or of predicates, none true");
  }));
  const std::string apart = error_of(1, 64, [] {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads_or(0);
  });
  expect(apart, "threads wait at different barriers");
  expect(apart, "test_scheduler.cpp:");
  expect(error_of(1, 64,
                  [] {
                    if (threadIdx.x != 5) __syncthreads();
                  }),
         "others that have left");
}

void test_collectives() {
  expect_none(error_of(2, 64, [] {
    const unsigned lane = threadIdx.x % 32, all = 0xffffffffu;
    check(__ballot_sync(all, lane % 2 == 1) == 0xaaaaaaaau, "ballot");
    check(__any_sync(all, lane == 17) == 1 && __any_sync(all, 0) == 0, "any");
    check(__all_sync(all, 1) == 1 && __all_sync(all, lane != 17) == 0, "all");
    check(__match_any_sync(all, lane / 16) == (lane < 16 ? 0xffffu : 0xffff0000u), "match");
    check(__shfl_sync(all, 0.5 * lane, 3) == 1.5, "shuffle");
    check(__shfl_down_sync(all, lane, 4u) == (lane < 28 ? lane + 4 : lane), "shuffle down");
    check(__shfl_up_sync(all, lane, 4u) == (lane >= 4 ? lane - 4 : lane), "shuffle up");
    check(__shfl_xor_sync(all, lane, 5) == (lane ^ 5), "shuffle xor");
    if (lane < 8) check(__ballot_sync(0xffu, 1) == 0xffu, "ballot of some lanes");
    __syncwarp();
  }));
  expect(error_of(1, 32,
                  [] {
                    if (threadIdx.x < 16) __ballot_sync(0xffffffffu, 1);
                  }),
         "others that have left");
  expect(error_of(1, 32, [] { __ballot_sync(0x1u, 1); }), "not in its own mask");
  expect(error_of(1, 16, [] { __syncwarp(); }), "lanes that there are not");
  expect(error_of(1, 32,
                  [] {
                    if (threadIdx.x < 16) __shfl_sync(0xffffu, 1, 20);
                  }),
         "outside of the mask");
  const auto divergent = [] {
    if (threadIdx.x < 16) __syncwarp();
    else __ballot_sync(0xffffffffu, 1);
  };
  expect(error_of(1, 32, divergent), "wait elsewhere");
}

// What a lane writes is seen by the others after __syncwarp, and only by luck without.
void test_order_of_lanes() {
  for (const bool ordered : {true, false}) {
    bool right = true;
    expect_none(error_of(1, 32, [&] {
      auto& numbers = emulation::shared<int[32]>([] {});
      numbers[threadIdx.x] = static_cast<int>(threadIdx.x);
      if (ordered) __syncwarp();
      right = right && numbers[31 - threadIdx.x] == static_cast<int>(31 - threadIdx.x);
    }));
    check(right == ordered, "lanes are ordered by __syncwarp alone", ordered);
  }
}

// The block that takes the last ticket sees what the others wrote.
void test_tickets() {
  for (int seed = 0; seed < kSeeds; ++seed) {
    configure(seed);
    int of_blocks[5] = {}, sum = 0;
    unsigned ticket = 0;
    emulation::Launch("kernel", 5, 32)([&] {
      if (threadIdx.x != 0) return;
      of_blocks[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
      __threadfence();
      if (atomicAdd(&ticket, 1u) == gridDim.x - 1) sum += std::accumulate(of_blocks, of_blocks + 5, 0);
    });
    check(sum == 15, "one block is the last", sum);
  }
}

void test_launches() {
  emulation::take_launches();
  emulation::Launch("first", dim3(2, 3), 32)(
      [](int number) { check(number == 5 && gridDim.y == 3, "arguments and grid"); }, 5);
  emulation::Launch("second", 1, 1)([] {});
  check(emulation::take_launches() == "first second", "launches are noted");
  check(emulation::take_launches().empty(), "and taken");
  expect(error_of(0, 32, [] {}), "no such grid");
  expect(error_of(1, 1025, [] {}), "no such block");
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  test_shared_memory();
  test_barriers();
  test_collectives();
  test_order_of_lanes();
  test_tickets();
  test_launches();
  return check.result();
}
