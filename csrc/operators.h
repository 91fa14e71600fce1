// From the declaration of a loss (declaration.h) to its operators, for either engine.
//
//   <loss>           reduce and settle -> (loss, table, what else backward needs); what autograd sees. On the CPU,
//                    Python implements it: it calls <loss>_cpu and raises for invalid pixels
//   <loss>_cpu       the same and the number of invalid pixels, which the same pass counted
//   <loss>_backward  map
//   <loss>_settle    settle alone, of sums that were added up over several processes, if the loss settles apart
//   <loss>_table     what the columns of the table are, for Python, a line for each of the declaration's losses
//
// Names and types stand once, in lists of options: schemas are made of them, and parameters have to have their types.
#pragma once

#include <torch/csrc/stable/library.h>

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "stages.h"

namespace rarepixel {

// ---- Options and schemas ----

// How torch hands an option over, what it is called in a schema, and how it is read.
template <class T>
struct Boxed {
  using Parameter = T;
  static T read(T value) { return value; }
};
template <>
struct Boxed<Tensor> {
  using Parameter = const Tensor&;
  static const Tensor& read(const Tensor& tensor) { return tensor; }
};
template <>
struct Boxed<std::optional<Tensor>> {
  using Parameter = const std::optional<Tensor>&;
  static const std::optional<Tensor>& read(const std::optional<Tensor>& tensor) { return tensor; }
};
template <>
struct Boxed<Size> {
  using Parameter = std::int64_t;
  static Size read(std::int64_t size) { return {size}; }
};
template <>
struct Boxed<Numbers> {
  using Parameter = const std::vector<double>&;
  static Numbers read(const std::vector<double>& numbers) { return {numbers.data(), std::ssize(numbers)}; }
};
template <>
struct Boxed<NumberPerClass> {
  using Parameter = const std::optional<Tensor>&;
  static NumberPerClass read(const std::optional<Tensor>& tensor) {  // [C], float64
    if (!tensor.has_value()) return {};
    return {static_cast<const double*>(tensor->const_data_ptr()), tensor->numel()};
  }
};
template <class O>
using Parameter = typename Boxed<typename O::Type>::Parameter;

template <class T>
constexpr const char* schema_type() {
  if constexpr (std::is_same_v<T, Tensor>) return "Tensor";
  else if constexpr (std::is_same_v<T, std::optional<Tensor>> || std::is_same_v<T, NumberPerClass>) return "Tensor?";
  else if constexpr (std::is_same_v<T, std::optional<std::int64_t>>) return "int?";
  else if constexpr (std::is_same_v<T, Size>) return "SymInt";
  else if constexpr (std::is_same_v<T, Numbers>) return "float[]";
  else if constexpr (std::is_same_v<T, double>) return "float";
  else if constexpr (std::is_same_v<T, bool>) return "bool";
  else {
    static_assert(std::is_same_v<T, std::int64_t>, "declaration.h says which types an option may have");
    return "int";
  }
}

template <class... As>
OptionList<As...> concatenated(OptionList<As...>);
template <class... As, class... Bs, class... Rest>
auto concatenated(OptionList<As...>, OptionList<Bs...>,
                  Rest... rest) -> decltype(concatenated(OptionList<As..., Bs...>{}, rest...));
template <class... Lists>
using Concatenated = decltype(concatenated(OptionList<>{}, Lists{}...));

// Those that backward takes, too.
template <class... Os>
using OfBackward = Concatenated<std::conditional_t<Os::kForwardAlone, OptionList<>, OptionList<Os>>...>;
template <class... Os>
OfBackward<Os...> of_backward(OptionList<Os...>);

// "Tensor logits, int balance"
template <class... Os>
std::string schema_of(OptionList<Os...>) {
  std::string text;
  ((text += (text.empty() ? "" : ", ") + std::string(schema_type<typename Os::Type>()) + " " + Os::name()), ...);
  return text;
}

using Logits = OptionList<Option<"logits", Tensor>>;   // [N, C, *]
using Labelled = OptionList<Option<"target", Tensor>,  // [N, C, *], or of an index map over a softmax [N, 1, *]
                            Option<"mask", std::optional<Tensor>>,  // as target, expanded
                            Option<"ignore_index", std::optional<std::int64_t>>>;
using Regional = OptionList<Option<"balance", std::int64_t>, Option<"reduction", std::int64_t>>;
using Weighing = OptionList<Option<"weight", std::optional<Tensor>>>;  // as target, expanded, of the loss's dtype
using LossAndTable = OptionList<Option<"loss", Tensor>,                // [] or one value per group
                                Option<"table", Tensor>>;              // [rows, columns], float64

// Whether an operator's parameters are those of its schema.
template <class Result, class... Parameters, class... Os>
constexpr bool takes(Result (*)(Parameters...), OptionList<Os...>) {
  if constexpr (sizeof...(Parameters) != sizeof...(Os)) return false;
  else return (std::is_same_v<Parameters, Parameter<Os>> && ...);
}

// ---- The table ----

template <int kNames>
void append_columns(std::string& text, const NamedColumn (&names)[kNames], int first) {
  for (const NamedColumn& column : names) {
    if (column.name != nullptr) text += std::string(" ") + column.name + "=" + std::to_string(first + column.index);
  }
}

// "columns=8 invalid=4 scale=7 positives=0 ..."
template <class Loss>
std::string columns_of() {
  using Table = RegionTable<Loss>;
  std::string text = "columns=" + std::to_string(Table::kColumns) + " invalid=" + std::to_string(Table::kInvalid) +
                     " scale=" + std::to_string(Table::kScale);
  append_columns(text, Loss::kSumNames, 0);
  append_columns(text, Loss::kCoefficientNames, Table::kCoefficients);
  return text;
}

// ---- Operators ----

// What a declaration's losses have in common.
template <class Losses>
struct Common;
template <class First, class... Others>
struct Common<LossList<First, Others...>> {
  using Stage = decltype(stage_of<First>());
  static_assert((std::is_same_v<Stage, decltype(stage_of<Others>())> && ...), "all losses need the same before reduce");
  static std::string tables() {
    std::string text = columns_of<First>();
    ((text += "\n" + columns_of<Others>()), ...);
    return text;
  }
};

template <class Engine, class Declared, class Stage = typename Common<typename Declared::Losses>::Stage,
          class Arguments = typename Stage::Arguments, class Handed = typename Stage::Backward,
          class Options = typename Declared::Options, class BackwardOptions = decltype(of_backward(Options{}))>
struct Operators;

template <class Engine, class Declared, class Stage, class... Arguments, class... Handed, class... Options,
          class... BackwardOptions>
struct Operators<Engine, Declared, Stage, OptionList<Arguments...>, OptionList<Handed...>, OptionList<Options...>,
                 OptionList<BackwardOptions...>> {
  static auto forward(const Tensor& logits, const Tensor& target, const std::optional<Tensor>& mask,
                      std::optional<std::int64_t> ignore_index, std::int64_t balance, std::int64_t reduction,
                      const std::optional<Tensor>& weight, Parameter<Arguments>... arguments,
                      Parameter<Options>... options) {
    return with_checked(logits, weight.has_value(), options..., [&]<class Loss>(const Loss& loss) {
      const Inputs inputs = inputs_of(loss, logits, target, mask, ignore_index, balance);
      const auto reduced = static_cast<Reduction>(reduction);
      const Tensor table = empty_table<Loss>(logits, inputs.balance);
      ReduceProblem problem;
      problem.weights = view_of(weight);
      Stage stage;
      const std::int64_t unusable = stage.template prepare<Engine, Loss>(problem, inputs, table, arguments...);
      if (unusable > 0) {
        return Engine::results({empty_loss<Loss>(logits, inputs.balance, reduced), table, unusable}, stage.results());
      }
      return Engine::results(Engine::template forward<Declared>(loss, inputs, reduced, table, problem),
                             stage.results());
    });
  }

  static std::tuple<Tensor, Tensor> settle(const Tensor& logits,
                                           const Tensor& sums,  // [rows, kNumSums + 1], float64
                                           std::int64_t balance, std::int64_t reduction,
                                           Parameter<Options>... options) {
    return with_checked(logits, false, options..., [&]<class Loss>(const Loss& loss) {
      const auto reduced = static_cast<Reduction>(reduction);
      const auto balanced = static_cast<Balance>(balance);
      STD_TORCH_CHECK(sums.is_contiguous() && sums.dim() == 2 && sums.size(1) == Loss::kNumSums + 1,
                      "rarepixel: sums: expected contiguous rows of ", Loss::kNumSums + 1, " numbers");
      const auto out =
          Engine::settle(loss, sums, empty_table<Loss>(logits, balanced), empty_loss<Loss>(logits, balanced, reduced),
                         reduced, regions_of_group<Loss>(logits));
      return std::tuple<Tensor, Tensor>(out.loss, out.table);
    });
  }

  static Tensor backward(const Tensor& upstream,  // [] or one value per group
                         const Tensor& logits, const Tensor& target, const std::optional<Tensor>& mask,
                         std::optional<std::int64_t> ignore_index,
                         const Tensor& table,  // as forward made it
                         std::int64_t balance, const std::optional<Tensor>& weight, Parameter<Handed>... handed,
                         Parameter<BackwardOptions>... options) {
    const auto run_weighted = [&]<class Loss>(const Loss& loss) {
      // What was kept at random tells what counts.
      const Inputs inputs = Loss::kDropsPixels ? inputs_of(loss, logits, target, std::nullopt, std::nullopt, balance)
                                               : inputs_of(loss, logits, target, mask, ignore_index, balance);
      STD_TORCH_CHECK(table.is_contiguous() && table.dim() == 2 && table.size(1) == RegionTable<Loss>::kColumns,
                      "rarepixel: table: expected contiguous rows of ", RegionTable<Loss>::kColumns, " numbers");
      MapProblem problem;
      problem.weights = view_of(weight);
      Stage::prepare(problem, handed...);
      return Engine::template backward<Declared>(loss, upstream, inputs, table, problem);
    };
    const auto run = [&](const auto& loss) {
      return with_weights(over_classes(loss, logits), weight.has_value(), run_weighted);
    };
    const std::tuple<typename BackwardOptions::Type...> given{Boxed<typename BackwardOptions::Type>::read(options)...};
    if constexpr (requires { Declared::with_gradient(std::declval<typename BackwardOptions::Type>()..., run); }) {
      return std::apply([&](const auto&... values) { return Declared::with_gradient(values..., run); }, given);
    } else {
      return Declared::with_loss(given_or_empty<Options>(given)..., run);
    }
  }

  // ---- In torch's library ----

  using ForwardTakes = Concatenated<Logits, Labelled, Regional, Weighing, OptionList<Arguments..., Options...>>;
  using SettleTakes = Concatenated<Logits, OptionList<Option<"sums", Tensor>>, Regional, OptionList<Options...>>;
  using BackwardTakes = Concatenated<OptionList<Option<"upstream", Tensor>>, Logits, Labelled,
                                     OptionList<Option<"table", Tensor>, Option<"balance", std::int64_t>>, Weighing,
                                     OptionList<Handed..., BackwardOptions...>>;
  using ForwardReturns = Concatenated<LossAndTable, typename Stage::Results>;

  static void define(torch::stable::detail::StableLibrary& m, const std::string& loss) {
    const std::string arguments = schema_of(ForwardTakes{}), results = schema_of(ForwardReturns{});
    m.def((loss + "(" + arguments + ") -> (" + results + ")").c_str());
    m.def((loss + "_cpu(" + arguments + ") -> (" + results + ", int invalid)").c_str());
    m.def((loss + "_backward(" + schema_of(BackwardTakes{}) + ") -> Tensor").c_str());
    if constexpr (Declared::kSettlesApart) {
      m.def((loss + "_settle(" + schema_of(SettleTakes{}) + ") -> (" + schema_of(LossAndTable{}) + ")").c_str());
    }
    m.def((loss + "_table() -> str").c_str());
  }

  static void implement(torch::stable::detail::StableLibrary& m, const std::string& loss) {
    static_assert(takes(&Operators::forward, ForwardTakes{}));
    static_assert(takes(&Operators::backward, BackwardTakes{}));
    m.impl((loss + (Engine::kIsCpu ? "_cpu" : "")).c_str(), TORCH_BOX(&Operators::forward));
    m.impl((loss + "_backward").c_str(), TORCH_BOX(&Operators::backward));
    if constexpr (Declared::kSettlesApart) {
      static_assert(takes(&Operators::settle, SettleTakes{}));
      m.impl((loss + "_settle").c_str(), TORCH_BOX(&Operators::settle));
    }
  }

  // Of no device, so implemented once.
  static void implement_table(torch::stable::detail::StableLibrary& m, const std::string& loss) {
    m.impl((loss + "_table").c_str(), TORCH_BOX(&Operators::table));
  }

 private:
  static std::string table() { return Common<typename Declared::Losses>::tables(); }

  // Calls run(loss) for the options, which are checked.
  template <class Run>
  static auto with_checked(const Tensor& logits, bool weighted, Parameter<Options>... options, const Run& run) {
    const char* const complaint = Declared::complaint(Boxed<typename Options::Type>::read(options)...);
    STD_TORCH_CHECK(complaint == nullptr, "rarepixel: ", complaint == nullptr ? "" : complaint);
    return Declared::with_loss(Boxed<typename Options::Type>::read(options)..., [&](const auto& loss) {
      return with_weights(over_classes(loss, logits), weighted, run);
    });
  }

  // Calls run(loss), or the same for pixels with weights.
  template <class Loss, class Run>
  static auto with_weights(const Loss& loss, bool weighted, const Run& run) {
    if (weighted) return run(Weighted<Loss>{loss});
    return run(loss);
  }

  template <class Loss>
  static Loss over_classes(Loss loss, const Tensor& logits) {
    if constexpr (Loss::kSeesClasses) loss.set_classes(static_cast<int>(logits.size(1)));
    return loss;
  }

  template <class Loss>
  static Inputs inputs_of(const Loss& loss, const Tensor& logits, const Tensor& target,
                          const std::optional<Tensor>& mask, std::optional<std::int64_t> ignore_index,
                          std::int64_t balance) {
    Inputs inputs{logits, target, labels_of(target, mask, ignore_index), static_cast<Balance>(balance)};
    if constexpr (Loss::kIndexMap) {
      inputs.labels.channels = target.size(1);
      inputs.labels.any_index = loss.takes_any_index();
    }
    return inputs;
  }

  template <class O>
  static typename O::Type given_or_empty(const std::tuple<typename BackwardOptions::Type...>& given) {
    if constexpr (O::kForwardAlone) {
      return {};
    } else {
      constexpr bool kIsIt[] = {std::is_same_v<O, BackwardOptions>...};
      constexpr std::size_t kPlace = [&] {
        std::size_t place = 0;
        while (!kIsIt[place]) ++place;
        return place;
      }();
      return std::get<kPlace>(given);
    }
  }
};

}  // namespace rarepixel
