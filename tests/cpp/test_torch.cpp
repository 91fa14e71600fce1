// The shared library as a program with libtorch uses it: load it, call its operators through torch's dispatcher.
// Usage: test_torch librarepixel.so
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>

#include <cmath>

#include "check.h"
#include "problem.h"
#include "losses/random_drop.h"

namespace rarepixel::test {
namespace {

torch::jit::Stack call(const char* name, torch::jit::Stack stack) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  op.callBoxed(stack);
  return stack;
}

void check_close(double got, double expected, What what) {
  check(std::fabs(got - expected) < 1e-6, what, got, expected);
}

// One positive of p = 1/2 and three negatives: two of p = 1/2, of which the number 0.4 < 1 - p drops one and 0.6 keeps
// the other, and one of p = 3/4, kept by 0.3 > 1 - p. So N+ = 1, N- = 2, w+ = 2/3, w- = 1/3, and
//   L = 2/3 ln 2 + 1/3 (ln 2 + ln 4) = 5/3 ln 2,   sum of weights = 4/3,   mean = 5/4 ln 2.
void test_hand_computed_case() {
  const at::Tensor logits = at::tensor({0.0, 0.0, 0.0, std::log(3.0)}, at::kFloat).view({1, 1, 2, 2});
  const at::Tensor target = at::tensor({1, 0, 0, 0}, at::kByte).view({1, 1, 2, 2});
  const at::Tensor uniform = at::tensor({0.0, 0.4, 0.6, 0.3}, at::kFloat).view({1, 1, 2, 2});
  const c10::IValue none;
  const auto balance = static_cast<std::int64_t>(Balance::kChannel);
  const auto reduction = static_cast<std::int64_t>(Reduction::kMean);
  const auto schedule = static_cast<std::int64_t>(DropSchedule::kLinear);

  const auto forward =
      call("rarepixel::random_drop_cpu", {logits, target, none, none, balance, reduction, none, uniform, schedule});
  check(forward.size() == 4, "random_drop_cpu returns four values", forward.size());
  const at::Tensor loss = forward[0].toTensor(), table = forward[1].toTensor(), kept = forward[2].toTensor();
  check(loss.dim() == 0 && loss.scalar_type() == at::kFloat, "the loss is one float", loss.dim());
  check_close(loss.item<double>(), 1.25 * std::log(2.0), "loss: got, expected");
  check(kept.numel() == 1 && kept.item<std::int64_t>() == 0b1101, "kept bits", kept.item<std::int64_t>());
  check(forward[3].toInt() == 0, "invalid labels", forward[3].toInt());

  const at::Tensor upstream = at::tensor(2.0, at::kFloat).view({});
  const auto backward =
      call("rarepixel::random_drop_backward", {upstream, logits, target, none, none, table, balance, kept});
  const at::Tensor gradient = backward[0].toTensor().view({4});
  constexpr double kExpected[] = {-0.25, 0, 0.125, 0.1875};
  for (int i = 0; i < 4; ++i) {
    check_close(gradient[i].item<double>(), 2 * kExpected[i], "gradient: got, expected");
  }
}

void test_cpu_isa() {
  const std::string isa = call("rarepixel::cpu_isa", {})[0].toStringRef();
  check(isa == "baseline" || isa == "avx2" || isa == "avx512", "cpu_isa", isa.c_str());
}

}  // namespace
}  // namespace rarepixel::test

int main(int argc, char** argv) {
  using namespace rarepixel::test;
  if (argc != 2 || dlopen(argv[1], RTLD_NOW) == nullptr) {
    std::printf("%s\n", argc != 2 ? "usage: test_torch librarepixel.so" : dlerror());
    return 1;
  }
  test_hand_computed_case();
  test_cpu_isa();
  return check.result();
}
