#include "scheduler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <vector>

#include "fiber.h"
#include "sanitizers.h"

namespace emulation {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kMostThreads = 1024, kMostRows = 65535;
constexpr std::size_t kSharedMemory = 48 << 10, kRedZone = 64;

enum class State { kReady, kAtCollective, kAtBarrier, kDone };

struct Thread {
  Fiber fiber;
  State state = State::kReady;
  Coordinates coordinates;
  // Where it waits, what for, and with what.
  Line line;
  Collective what = Collective::kSyncWarp;
  unsigned mask = 0;
  int argument = 0;
  std::uint64_t value = 0, result = 0;
  // What orders its memory beyond the block.
  bool has_fenced = false;
  void* accessed = nullptr;
  // How many it has met at: neighbouring meetings order memory by places of their own.
  unsigned barriers = 0, collectives = 0;
};

struct Variable {
  const void* key;
  void* memory;
};

// The threads of a block and what orders their memory. Two take turns, so that nothing orders a block's memory and that
// of the next one; to the next but one it hands on threads and shared memory.
struct Block {
  std::vector<std::unique_ptr<Thread>> threads;
  int at_collectives[kMostThreads / kWarp];  // of each warp, how many lanes wait at any
  alignas(128) char shared_memory[2 * kSharedMemory];
  char begins, ends;
  char barriers[2];
  char warps[kMostThreads / kWarp][2];
};

std::array<Block, 2> blocks;

// What runs.
std::mutex one_at_a_time;
const char* kernel = nullptr;
const std::function<void()>* body = nullptr;
Block* block = nullptr;
int size = 0;     // threads of the block
int running = 0;  // the thread that runs
int waiting = 0;  // at the barrier
std::vector<int> ready;
std::size_t next = 0;  // of them, as numbered
std::vector<Variable> variables;
std::size_t shared_bytes = 0;
std::string error;

// What tests set and ask.
std::mt19937_64 choice(1);
Order order = Order::kShuffled;
bool collectives_order_memory = true;
int rubbish_byte = 0xff;
std::string launches;

// ---- Errors ----

std::string place(const Line& line) {
  return std::filesystem::path(line.file_name()).filename().string() + ":" + std::to_string(line.line());
}

bool is_same(const Line& a, const Line& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

void fail(const std::string& what) {
  if (error.empty()) error = std::string(kernel) + ": " + what;
}

std::string who_waits() {
  std::string text;
  for (int i = 0; i < size && text.size() < 500; ++i) {
    const Thread& thread = *block->threads[i];
    if (thread.state == State::kAtBarrier || thread.state == State::kAtCollective) {
      text += "; thread " + std::to_string(i) + " at " + place(thread.line);
    }
  }
  return text;
}

// ---- Waiting ----

Thread& this_thread() { return *block->threads[running]; }

void wait(Thread& thread, State state, const Line& line, std::uint64_t value) {
  thread.state = state;
  thread.line = line;
  thread.value = value;
}

void let_go_on(int index, std::uint64_t result) {
  Thread& thread = *block->threads[index];
  thread.result = result;
  thread.state = State::kReady;
  ready.push_back(index);
}

// All threads wait, or are done.
void open_barrier() {
  if (waiting < size) return fail("some threads wait for others that have left, or wait elsewhere" + who_waits());
  std::uint64_t predicates = 0;
  for (int i = 0; i < size; ++i) {
    const Thread& thread = *block->threads[i];
    if (!is_same(thread.line, block->threads[0]->line)) return fail("threads wait at different barriers" + who_waits());
    predicates += thread.value;
  }
  waiting = 0;
  for (int i = 0; i < size; ++i) let_go_on(i, predicates);
}

// Whether all lanes of a thread's mask are where it is.
bool has_met(const Thread& thread, int warp) {
  if (block->at_collectives[warp / kWarp] < std::popcount(thread.mask)) return false;
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((thread.mask >> lane & 1) == 0) continue;
    const Thread& other = *block->threads[warp + lane];
    if (other.state != State::kAtCollective || other.what != thread.what || other.mask != thread.mask ||
        !is_same(other.line, thread.line)) {
      return false;
    }
  }
  return true;
}

void perform(const Thread& thread, int warp) {
  const Collective what = thread.what;
  const unsigned mask = thread.mask;
  std::array<std::uint64_t, kWarp> values{}, results{};
  std::uint64_t ballot = 0;
  const auto lanes = [mask](const auto& run) {
    for (int lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1) != 0) run(lane);
    }
  };
  lanes([&](int lane) {
    values[lane] = block->threads[warp + lane]->value;
    ballot |= (values[lane] & 1) << lane;
  });
  lanes([&](int lane) {
    if (what == Collective::kBallot) {
      results[lane] = ballot;
    } else if (what == Collective::kMatch) {
      lanes([&](int other) { results[lane] |= std::uint64_t(values[other] == values[lane]) << other; });
    } else if (what == Collective::kShuffle) {
      const int from = block->threads[warp + lane]->argument;
      const bool is_lane = from >= 0 && from < kWarp;
      if (is_lane && (mask >> from & 1) == 0) fail("a shuffle from a lane outside of the mask: " + place(thread.line));
      results[lane] = values[is_lane ? from : lane];
    }
  });
  lanes([&](int lane) { let_go_on(warp + lane, results[lane]); });
  block->at_collectives[warp / kWarp] -= std::popcount(mask);
}

// ---- Running ----

void run_thread() {
  sanitizers::acquire(&block->begins);
  (*body)();
  sanitizers::release(&block->ends);
  Thread& thread = this_thread();
  thread.state = State::kDone;
  thread.fiber.leave();
}

int next_ready() {
  if (order == Order::kAsNumbered) {
    const int index = ready[next++];
    if (next == ready.size()) {
      ready.clear();
      next = 0;
    }
    return index;
  }
  if (order == Order::kShuffled) std::swap(ready[choice() % ready.size()], ready.back());
  const int index = ready.back();
  ready.pop_back();
  return index;
}

void begin_block(const Coordinates& coordinates) {
  while (static_cast<int>(block->threads.size()) < size) block->threads.push_back(std::make_unique<Thread>());
  variables.clear();
  shared_bytes = 0;
  waiting = 0;
  ready.clear();
  next = 0;
  std::fill(std::begin(block->at_collectives), std::end(block->at_collectives), 0);
  sanitizers::allow(block->shared_memory, sizeof block->shared_memory);
  std::fill_n(block->shared_memory, sizeof block->shared_memory, static_cast<char>(rubbish_byte));
  sanitizers::forbid(block->shared_memory, sizeof block->shared_memory);
  sanitizers::acquire(&block->ends);
  sanitizers::release(&block->begins);
  for (int i = 0; i < size; ++i) {
    Thread& thread = *block->threads[i];
    thread.fiber.start(&run_thread);
    thread.state = State::kReady;
    thread.coordinates = coordinates;
    thread.coordinates.thread = dim3(static_cast<unsigned>(i));
    thread.barriers = thread.collectives = 0;
    thread.has_fenced = false;
    thread.accessed = nullptr;
    ready.push_back(i);
  }
}

void run_block(const Coordinates& coordinates) {
  begin_block(coordinates);
  for (int done = 0; done < size && error.empty();) {
    if (ready.empty()) {
      open_barrier();
      continue;
    }
    running = next_ready();
    Thread& thread = this_thread();
    here = thread.coordinates;
    thread.fiber.resume();
    done += thread.state == State::kDone;
  }
  sanitizers::allow(block->shared_memory, sizeof block->shared_memory);
}

}  // namespace

// ---- What kernels call ----

int block_barrier(bool predicate, const Line& line) {
  Thread& thread = this_thread();
  wait(thread, State::kAtBarrier, line, predicate ? 1 : 0);
  ++waiting;
  // A thread that goes on late must not see what others have done since.
  char* const meeting = &block->barriers[thread.barriers++ % 2];
  sanitizers::release(meeting);
  thread.fiber.suspend();
  sanitizers::acquire(meeting);
  return static_cast<int>(thread.result);
}

std::uint64_t collective(Collective what, unsigned mask, std::uint64_t value, int argument, const Line& line) {
  Thread& thread = this_thread();
  const int warp = running / kWarp * kWarp;
  if ((mask >> (running - warp) & 1) == 0) fail("a lane is not in its own mask: " + place(line));
  if (static_cast<int>(std::bit_width(mask)) > size - warp)
    fail("the mask names lanes that there are not: " + place(line));
  wait(thread, State::kAtCollective, line, value);
  thread.what = what;
  thread.mask = mask;
  thread.argument = argument;
  const bool orders_memory = mask == 0xffffffffu && (what == Collective::kSyncWarp || collectives_order_memory);
  char* const meeting = &block->warps[warp / kWarp][thread.collectives % 2];
  if (orders_memory) {
    ++thread.collectives;
    sanitizers::release(meeting);
  }
  ++block->at_collectives[warp / kWarp];
  if (has_met(thread, warp)) perform(thread, warp);
  thread.fiber.suspend();
  if (orders_memory) sanitizers::acquire(meeting);
  return thread.result;
}

void fence() {
  Thread& thread = this_thread();
  if (thread.accessed != nullptr) sanitizers::acquire(thread.accessed);
  thread.has_fenced = true;
}

void atomic_access(void* at) {
  Thread& thread = this_thread();
  if (thread.has_fenced) sanitizers::release(at);
  thread.accessed = at;
}

void* shared_memory(const void* key, std::size_t bytes) {
  for (const Variable& variable : variables) {
    if (variable.key == key) return variable.memory;
  }
  char* const memory = block->shared_memory + variables.size() * kRedZone + shared_bytes;
  shared_bytes += (bytes + 15) / 16 * 16;
  if (shared_bytes > kSharedMemory) {
    fail("more than 48 KiB of shared memory");
    this_thread().fiber.suspend();
  }
  sanitizers::allow(memory, bytes);
  variables.push_back({key, memory});
  return memory;
}

// ---- What the host calls ----

void run_grid(const char* name, dim3 grid, dim3 block_size, const std::function<void()>& thread) {
  const std::scoped_lock lock(one_at_a_time);
  kernel = name;
  error.clear();
  if (!launches.empty()) launches += ' ';
  launches += name;
  if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > kMostRows || grid.z != 1) fail("no such grid");
  if (block_size.x == 0 || block_size.x > kMostThreads || block_size.y != 1 || block_size.z != 1) fail("no such block");
  if (error.empty()) {
    body = &thread;
    size = static_cast<int>(block_size.x);
    std::vector<std::uint64_t> numbers(std::uint64_t(grid.x) * grid.y);
    for (std::uint64_t i = 0; i < numbers.size(); ++i) numbers[i] = i;
    if (order == Order::kShuffled) std::shuffle(numbers.begin(), numbers.end(), choice);
    if (order == Order::kBackwards) std::reverse(numbers.begin(), numbers.end());
    for (std::size_t n = 0; n < numbers.size() && error.empty(); ++n) {
      block = &blocks[n % 2];
      const dim3 at(static_cast<unsigned>(numbers[n] % grid.x), static_cast<unsigned>(numbers[n] / grid.x));
      run_block({dim3(), at, block_size, grid});
    }
    for (Block& each : blocks) sanitizers::acquire(&each.ends);
  }
  if (!error.empty()) throw std::runtime_error("emulated CUDA: " + error);
}

// ---- What tests set and ask ----

void configure(std::uint64_t seed, Order how, bool strict) {
  choice.seed(seed);
  order = how;
  collectives_order_memory = !strict;
  // Of floating-point numbers a NaN, or small: what only the one or only the other shows is seen by some seed.
  rubbish_byte = seed % 2 == 0 ? 0xff : 0xa5;
}

std::string take_launches() { return std::exchange(launches, ""); }

int rubbish() { return rubbish_byte; }

}  // namespace emulation
