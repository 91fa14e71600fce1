// rarepixel_legacy_caffe: runs one layer of ../layers on NumPy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace py = pybind11;

namespace {

// A message as a dict of Python. What nobody takes out of it is no field.
class Fields {
 public:
  Fields(std::string message, const py::dict& values) : message_(std::move(message)), left_(values.attr("copy")()) {}

  template <class T, class Set>
  void take(const char* name, const Set& set) {
    if (!left_.contains(name)) return;
    const py::object value = left_.attr("pop")(name);
    // What calls a Python type to convert to it has errors of its own.
    if constexpr (std::is_base_of_v<py::object, T>) {
      if (!py::isinstance<T>(value)) refuse(name, value);
    }
    T converted;
    try {
      converted = value.cast<T>();
    } catch (const py::cast_error&) {
      refuse(name, value);
    }
    set(converted);
  }

  // Calls read(fields) with the message in a field.
  template <class Read>
  void take_message(const char* name, const Read& read) {
    take<py::dict>(name, [&](const py::dict& values) {
      Fields fields(name, values);
      read(fields);
      fields.finish();
    });
  }

  void finish() const {
    for (const auto& item : left_) {
      throw py::value_error(message_ + ": no field " + py::repr(item.first).cast<std::string>());
    }
  }

 private:
  [[noreturn]] void refuse(const char* name, const py::object& value) const {
    throw py::type_error(message_ + "." + name + ": got " + py::repr(value).cast<std::string>());
  }

  std::string message_;
  py::dict left_;
};

caffe::SigmoidRandomDropCELossParameter::ScheduleType schedule_type(const std::string& name) {
  using Parameter = caffe::SigmoidRandomDropCELossParameter;
  if (name == "LINEAR") return Parameter::LINEAR;
  if (name == "SQU") return Parameter::SQU;
  if (name == "LOG") return Parameter::LOG;
  throw py::value_error("randrop_loss_param.schedule_type: expected LINEAR, SQU or LOG, got " + name);
}

caffe::LayerParameter layer_parameter(const std::string& type, const py::dict& values) {
  caffe::LayerParameter layer;
  layer.set_type(type);
  Fields fields("LayerParameter", values);
  fields.take<std::string>("name", [&](const std::string& value) { layer.set_name(value); });
  fields.take<float>("loss_weight", [&](float value) { layer.add_loss_weight(value); });
  fields.take_message("loss_param", [&](Fields& of) {
    of.take<std::int32_t>("ignore_label", [&](auto value) { layer.mutable_loss_param()->set_ignore_label(value); });
  });
  fields.take_message("randrop_loss_param", [&](Fields& of) {
    of.take<std::string>("schedule_type", [&](const std::string& name) {
      layer.mutable_randrop_loss_param()->set_schedule_type(schedule_type(name));
    });
  });
  fields.take_message("bin_loss_param", [&](Fields& of) {
    of.take<std::int32_t>("key", [&](auto value) { layer.mutable_bin_loss_param()->set_key(value); });
    of.take<std::int32_t>("lambda", [&](auto value) { layer.mutable_bin_loss_param()->set_lambda(value); });
  });
  fields.take_message("mcbsce_loss_param", [&](Fields& of) {
    of.take<std::uint32_t>("num_label", [&](auto value) { layer.mutable_mcbsce_loss_param()->set_num_label(value); });
    of.take<float>("ratio", [&](auto value) { layer.mutable_mcbsce_loss_param()->set_ratio(value); });
    of.take<std::uint32_t>("key", [&](auto value) { layer.mutable_mcbsce_loss_param()->set_key(value); });
  });
  fields.take_message("topk_loss_param", [&](Fields& of) {
    of.take<float>("ratio", [&](auto value) { layer.mutable_topk_loss_param()->set_ratio(value); });
    of.take<std::uint32_t>("k", [&](auto value) { layer.mutable_topk_loss_param()->set_k(value); });
  });
  fields.finish();
  return layer;
}

template <class Dtype>
using Array = py::array_t<Dtype, py::array::c_style>;

template <class Dtype>
Array<Dtype> array_of(const caffe::Blob<Dtype>& like, const Dtype* values) {
  Array<Dtype> array(std::vector<py::ssize_t>(like.shape().begin(), like.shape().end()));
  std::copy_n(values, like.count(), array.mutable_data());
  return array;
}

struct Run {
  std::optional<unsigned> seed;
  std::optional<double> top_diff;
  double bottom_diff;
  bool backward;
};

template <class Dtype>
py::dict run(const caffe::LayerParameter& parameter, const std::vector<py::array>& arrays, const Run& options) {
  std::deque<caffe::Blob<Dtype>> bottoms;
  std::vector<caffe::Blob<Dtype>*> bottom;
  for (const py::array& given : arrays) {
    if (!py::isinstance<py::array_t<Dtype>>(given)) throw py::type_error("bottoms: expected arrays of one dtype");
    const Array<Dtype> values(given);
    bottoms.emplace_back(std::vector<int>(values.shape(), values.shape() + values.ndim()));
    bottom.push_back(&bottoms.back());
    std::copy_n(values.data(), values.size(), bottom.back()->mutable_cpu_data());
    std::fill_n(bottom.back()->mutable_cpu_diff(), values.size(), static_cast<Dtype>(options.bottom_diff));
  }
  caffe::Blob<Dtype> top;

  const auto layer = caffe::LayerRegistry<Dtype>::CreateLayer(parameter);
  layer->SetUp(bottom, {&top});
  if (options.seed) caffe::Caffe::set_random_seed(*options.seed);
  const Dtype loss = layer->Forward(bottom, {&top});
  if (options.top_diff) top.mutable_cpu_diff()[0] = static_cast<Dtype>(*options.top_diff);
  std::vector<bool> propagate_down(bottom.size(), false);
  propagate_down[0] = options.backward;
  layer->Backward({&top}, propagate_down, bottom);

  py::dict result;
  result["loss"] = loss;
  result["top"] = array_of(top, top.cpu_data());
  result["diff"] = options.backward ? py::object(array_of(*bottom[0], bottom[0]->cpu_diff())) : py::none();
  return result;
}

py::dict run_layer(const std::string& type, const std::vector<py::array>& bottoms, const py::dict& parameters,
                   std::optional<unsigned> seed, std::optional<double> top_diff, double bottom_diff, bool backward) {
  const caffe::LayerParameter parameter = layer_parameter(type, parameters);
  if (bottoms.empty()) throw py::value_error("bottoms: expected at least one array");
  const Run options{seed, top_diff, bottom_diff, backward};
  if (py::isinstance<py::array_t<float>>(bottoms[0])) return run<float>(parameter, bottoms, options);
  if (py::isinstance<py::array_t<double>>(bottoms[0])) return run<double>(parameter, bottoms, options);
  throw py::type_error("bottoms: expected float32 or float64, got " + py::str(bottoms[0].dtype()).cast<std::string>());
}

template <class Dtype>
py::array uniform_of(int count) {
  Array<Dtype> numbers(count);
  caffe::caffe_rng_uniform<Dtype>(count, 0, 1, numbers.mutable_data());
  return numbers;
}

py::array uniform(int count, std::optional<unsigned> seed, bool single) {
  if (seed) caffe::Caffe::set_random_seed(*seed);
  return single ? uniform_of<float>(count) : uniform_of<double>(count);
}

}  // namespace

PYBIND11_MODULE(rarepixel_legacy_caffe, module) {
  module.doc() = "Runs the reference Caffe layers of rarepixel, one at a time, on NumPy arrays.";
  py::register_exception<caffe::CheckError>(module, "CheckError", PyExc_RuntimeError);
  module.def("layer_types", &caffe::LayerRegistry<float>::LayerTypeList);
  module.def("run_layer", &run_layer, py::arg("type"), py::arg("bottoms"), py::arg("parameters") = py::dict(),
             py::kw_only(), py::arg("seed") = py::none(), py::arg("top_diff") = py::none(),
             py::arg("bottom_diff") = 0.0, py::arg("backward") = true,
             R"(Sets a layer up and runs it forward and backward, once.

Args:
    type: what stands for `type` in a prototxt.
    bottoms: float32 or float64, all of one dtype.
    parameters: the rest of the layer in the prototxt, messages as dicts: {"bin_loss_param": {"key": 10}}.
    seed: of Caffe's generator, set just before the forward pass; None goes on from where it is.
    top_diff: the gradient of the top; None is the layer's loss_weight.
    bottom_diff: what the gradient buffers hold before.
    backward: whether to run backward.

Returns:
    A dict: "loss", weighted by loss_weight; "top"; "diff", the gradient of the first bottom.
)");
  module.def("uniform", &uniform, py::arg("count"), py::kw_only(), py::arg("seed") = py::none(),
             py::arg("single") = false, "Numbers from 0 to 1 as a layer draws them: float32 if single, else float64.");
}
