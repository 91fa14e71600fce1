// How a loss declares its operators: which losses they run, and what they take beyond the arguments of all operators.
//
// A loss's header ends with its declaration, a struct in namespace operators that has the name of the operator. It
// derives from Declaration<the losses that it may compute ...>, each of which is compiled for every instruction set and
// the GPU, and brings, if the operator takes options,
//   Options                OptionList<Option<"name", type>, ...>, in the operator's order
//   with_loss(options ..., run)                  returns run(loss) for one of the losses, made of the options
// and if it needs them
//   with_gradient(backward's options ..., run)   the same for backward alone
//   complaint(options ...)                       what is wrong with the options, or null; Python has checked them too
//   kSettlesApart          true: there is an operator that settles sums which were added up elsewhere
// Each of the losses is compiled as it is and as Weighted<it> (region.h), for pixels with weights.
// operators.h makes schemas and operators of it, for both engines. Nothing of torch stands here: the declaration is
// read by the files of every instruction set, too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rarepixel {

// A text as a template's argument.
template <std::size_t kSize>
struct Name {
  char text[kSize];

  consteval Name(const char (&from)[kSize]) {
    for (std::size_t i = 0; i < kSize; ++i) text[i] = from[i];
  }
};

// What an option may be, and what it is in a schema:
//     double (float)   bool (bool)   std::int64_t (int)   Size (SymInt)   Numbers (float[])   NumberPerClass (Tensor?)
// How many there are of something: while a graph is traced, a symbol.
struct Size {
  std::int64_t value = 0;
};

struct Numbers {
  const double* data = nullptr;
  std::int64_t size = 0;
};

struct NumberPerClass {
  const double* data = nullptr;  // [C], where the logits are; null: absent
  std::int64_t size = 0;
};

template <Name kName, class T>
struct Option {
  using Type = T;
  static constexpr const char* name() { return kName.text; }
  static constexpr bool kForwardAlone = false;
};

// An option that the gradient needs nothing of but what is in the table: backward does not take it, and gives with_loss
// an empty one.
template <Name kName, class T>
struct ForwardOption : Option<kName, T> {
  static constexpr bool kForwardAlone = true;
};

template <class... Options>
struct OptionList {};

template <class... Losses>
struct LossList {};

template <class Loss>
struct Weighted;  // region.h

template <class Loss, class... Others>
struct Declaration {
  using Losses = LossList<Loss, Others..., Weighted<Loss>, Weighted<Others>...>;
  using Options = OptionList<>;
  static constexpr bool kSettlesApart = false;

  template <class Run>
  static auto with_loss(const Run& run) {
    return run(Loss{});
  }
  template <class... Values>
  static const char* complaint(const Values&... /*options*/) {
    return nullptr;
  }
};

}  // namespace rarepixel
