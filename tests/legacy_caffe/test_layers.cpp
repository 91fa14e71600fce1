// The reference Caffe layers on a few pixels whose losses and gradients can be worked out by hand, and what they
// refuse.
#include <array>
#include <cmath>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/util/math_functions.hpp"
#include "caffe/util/thinning.hpp"
#include "check.h"

namespace rarepixel::test {
namespace {

constexpr double kLog2 = 0.69314718055994530942;

double logit(double p) { return std::log(p / (1 - p)); }
double softplus(double x) { return std::log1p(std::exp(x)); }

// A blob's shape and values.
struct Values {
  std::vector<int> shape;
  std::vector<double> values;
};

Values row(std::vector<double> values) {
  const int count = static_cast<int>(values.size());
  return {{1, 1, 1, count}, std::move(values)};
}

// One layer with its blobs.
template <class Dtype>
struct Net {
  std::deque<caffe::Blob<Dtype>> bottoms;
  std::vector<caffe::Blob<Dtype>*> bottom;
  caffe::Blob<Dtype> top;
  std::shared_ptr<caffe::Layer<Dtype>> layer;

  Net(const caffe::LayerParameter& parameter, const std::vector<Values>& inputs) {
    for (const Values& input : inputs) {
      bottoms.emplace_back(input.shape);
      bottom.push_back(&bottoms.back());
      for (std::size_t i = 0; i < input.values.size(); ++i) {
        bottom.back()->mutable_cpu_data()[i] = static_cast<Dtype>(input.values[i]);
      }
    }
    layer = caffe::LayerRegistry<Dtype>::CreateLayer(parameter);
    layer->SetUp(bottom, {&top});
  }

  Dtype forward() { return layer->Forward(bottom, {&top}); }
  void backward() {
    std::vector<bool> propagate_down(bottom.size(), false);
    propagate_down[0] = true;
    layer->Backward({&top}, propagate_down, bottom);
  }
};

template <class Dtype>
void expect(What what, const caffe::LayerParameter& parameter, const std::vector<Values>& inputs, double loss,
            const std::vector<double>& gradient) {
  Net<Dtype> net(parameter, inputs);
  const double tolerance = 20 * std::numeric_limits<Dtype>::epsilon();
  const double got = net.forward();
  check(std::fabs(got - loss) <= tolerance * std::fabs(loss), what, got, loss);
  net.backward();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double slope = net.bottom[0]->cpu_diff()[i];
    check(std::fabs(slope - gradient[i]) <= tolerance * std::max(1.0, std::fabs(gradient[i])), what, int(i), slope,
          gradient[i]);
  }
}

template <class Run>
void expect_failure(What what, const char* part, const Run& run) {
  std::string text = "nothing was thrown";
  try {
    run();
  } catch (const caffe::CheckError& error) {
    text = error.what();
  }
  check(text.find(part) != std::string::npos, what, text.c_str());
}

caffe::LayerParameter of_type(const char* type) {
  caffe::LayerParameter parameter;
  parameter.set_type(type);
  return parameter;
}

// ---- What stands in for Caffe ----

void test_generator() {
  const double beyond = std::nextafter(1.0, 2.0);
  std::array<double, 3> numbers;
  caffe::Caffe::set_random_seed(5489);
  caffe::caffe_rng_uniform<double>(3, 0, 1, numbers.data());
  // The published first outputs of MT19937.
  const std::array<double, 3> words = {3499211612.0, 581869302.0, 3890346734.0};
  for (int i = 0; i < 3; ++i) check(numbers[i] == words[i] / 4294967296.0 * beyond, "number", i, numbers[i]);

  float single;
  caffe::Caffe::set_random_seed(5489);
  caffe::caffe_rng_uniform<float>(1, 0, 1, &single);
  check(single == 3499211612.0f / 4294967296.0f * std::nextafter(1.0f, 2.0f), "one word a float, too", single);
}

void test_blob() {
  caffe::Blob<float> blob(2, 3, 4, 5);
  check(blob.count() == 120 && blob.count(1) == 60 && blob.count(1, 3) == 12, "counts", blob.count());
  check(blob.shape(-1) == 5 && blob.num() == 2 && blob.width() == 5, "axes", blob.shape(-1));
  check(blob.shape_string() == "2 3 4 5 (120)", "shape", blob.shape_string().c_str());
  blob.Reshape(std::vector<int>());
  check(blob.count() == 1 && blob.channels() == 1, "a scalar", blob.count());
  expect_failure("no such axis", "vs. 0", [&] { blob.shape(0); });
  expect_failure("negative", "negative", [&] { blob.Reshape({1, -1}); });
  expect_failure("too large", "INT_MAX", [&] { blob.Reshape({1 << 20, 1 << 20}); });
}

void test_registry() {
  check(caffe::LayerRegistry<float>::LayerTypeList().size() == 5, "five layers");
  check(caffe::LayerRegistry<double>::LayerTypeList().size() == 5, "five layers");
  // What the published usage names by mistake.
  expect_failure("unknown", "Unknown layer type",
                 [] { Net<float>(of_type("SigmoidRandomDropCELossParameter"), {row({0}), row({0})}); });
  expect_failure("one bottom", "number of bottoms", [] { Net<float>(of_type("BinLoss"), {row({0})}); });
  auto parameter = of_type("BinLoss");
  parameter.add_loss_weight(1);
  parameter.add_loss_weight(1);
  expect_failure("two weights", "loss_weight", [&] { Net<float>(parameter, {row({0}), row({0})}); });
}

// ---- The layers ----

template <class Dtype>
void test_random_drop() {
  auto parameter = of_type("SigmoidRandomDropCrossEntropyLoss");
  using Schedule = caffe::SigmoidRandomDropCELossParameter;
  for (const auto schedule : {Schedule::LINEAR, Schedule::SQU, Schedule::LOG}) {
    parameter.mutable_randrop_loss_param()->set_schedule_type(schedule);
    // A positive; a negative with p = 0, which is always dropped; one with p = 1, which never is, and whose log(1 - p)
    // stops at FLT_MIN; a label that is a negative to the loss only.
    const double floored = 87.33654475055310898657;
    expect<Dtype>("random drop", parameter, {row({0, -50, 50, 0}), row({1, 0, 0, 255})},
                  2. / 3 * kLog2 + 1. / 3 * floored + 1. / 3 * kLog2, {-1. / 3, 0, 1. / 3, (0.5 - 255) / 3});
    expect<Dtype>("no positives", parameter, {row({0, 3}), row({0, 0})}, 0, {0, 0});
    expect<Dtype>("no negatives", parameter, {row({0, 3}), row({1, 1})}, 0, {0, 0});
    expect<Dtype>("nothing left", parameter, {row({-50, -50}), row({0, 0})}, 0, {0, 0});
  }
  check(of_type("x").randrop_loss_param().schedule_type() == Schedule::LOG, "the default");

  // The weight of the loss is in what a net adds up, and in the gradient.
  parameter.add_loss_weight(0.5);
  expect<Dtype>("weighted", parameter, {row({0, 50}), row({1, 0})}, 0.5 * (0.5 * kLog2 + 0.5 * 87.33654475055310898657),
                {-0.125, 0.25});

  const Values two_images = {{2, 1, 1, 1}, {0, 0}}, two_channels = {{1, 2, 1, 1}, {0, 0}};
  expect_failure("images", "one image", [&] { Net<Dtype>(parameter, {two_images, two_images}); });
  expect_failure("channels", "one channel", [&] { Net<Dtype>(parameter, {two_channels, two_channels}); });
  expect_failure("counts", "a label for each", [&] { Net<Dtype>(parameter, {row({0, 0}), row({0})}); });
}

template <class Dtype>
void test_drops_as_often_as_it_should() {
  auto parameter = of_type("SigmoidRandomDropCrossEntropyLoss");
  using Schedule = caffe::SigmoidRandomDropCELossParameter;
  const int pixels = 20000;
  std::vector<double> logits(pixels, logit(0.3)), target(pixels, 0.0);
  target[0] = 1;
  const std::array<double, 3> expected = {0.7, 0.49, 1 + std::log10(0.7)};
  for (const auto schedule : {Schedule::LINEAR, Schedule::SQU, Schedule::LOG}) {
    parameter.mutable_randrop_loss_param()->set_schedule_type(schedule);
    Net<Dtype> net(parameter, {row(logits), row(target)});
    caffe::Caffe::set_random_seed(7);
    net.forward();
    net.backward();
    int dropped = 0;
    for (int i = 1; i < pixels; ++i) dropped += net.bottom[0]->cpu_diff()[i] == 0;
    check(std::fabs(dropped / double(pixels) - expected[schedule]) < 0.02, "share", int(schedule), dropped);
  }
}

template <class Dtype>
void test_bin_loss() {
  // A positive, and a negative in each bin.
  const Values logits = row({0, logit(0.1), logit(0.3), logit(0.5), logit(0.7), logit(0.9)});
  const Values target = row({1, 0, 0, 0, 0, 0});
  const std::array<double, 5> p = {0.1, 0.3, 0.5, 0.7, 0.9};
  auto parameter = of_type("BinLoss");
  check(parameter.bin_loss_param().key() == 20 && parameter.bin_loss_param().lambda() == 1, "defaults");
  for (const int lambda : {1, 3}) {
    for (const int key : {-1, 0, 1, 2, 3, 4, 5, 6}) {
      parameter.mutable_bin_loss_param()->set_key(key);
      parameter.mutable_bin_loss_param()->set_lambda(lambda);
      const int kept = key == -1 ? 1 : key == 0 || key > 5 ? 5 : key;
      const double w_pos = lambda * kept / (kept + 1.), w_neg = 1 / (kept + 1.);
      double loss = w_pos * kLog2;
      std::vector<double> gradient = {-0.5 * w_pos};
      for (int bin = 0; bin < 5; ++bin) {
        const bool is_kept = bin >= 5 - kept;
        if (is_kept) loss += w_neg * -std::log1p(-p[bin]);
        gradient.push_back(is_kept ? w_neg * p[bin] : 0);
      }
      expect<Dtype>("bins", parameter, {logits, target}, loss, gradient);
    }
  }

  parameter = of_type("BinLoss");
  expect<Dtype>("no positives", parameter, {row({0, 1}), row({0, 0})}, 0, {0, 0});
  expect<Dtype>("no negatives", parameter, {row({0, 1}), row({1, 1})}, 0, {0, 0});
  // Two images: the sum of their losses, halved. The second has nothing to lose.
  const double each = 0.5 * kLog2 + 0.5 * kLog2;
  expect<Dtype>("images", parameter, {{{2, 1, 1, 2}, {0, 0, 0, 0}}, {{2, 1, 1, 2}, {1, 0, 0, 0}}}, each / 2,
                {-0.125, 0.125, 0, 0});
  expect<Dtype>("a label with a gradient only", parameter, {row({0, 0, 0}), row({1, 0, 255})}, each,
                {-0.25, 0.25, 0.5 - 255});
  parameter.mutable_loss_param()->set_ignore_label(255);
  expect<Dtype>("ignored", parameter, {row({0, 0, 0}), row({1, 0, 255})}, each, {-0.25, 0.25, 0});

  // Ignoring label 0, the forward pass has positives alone; the backward pass counts the negatives, too.
  parameter.mutable_loss_param()->set_ignore_label(0);
  expect<Dtype>("ignored zeros", parameter, {row({0, 0, 0, 0}), row({1, 0, 0, 0})}, 0, {-0.5 * 0.75, 0, 0, 0});

  Net<Dtype> nothing(parameter, {row({0}), row({0})});
  check(std::isnan(nothing.forward()), "no pixel that counts");
  expect_failure("counts", "a label for each", [&] { Net<Dtype>(parameter, {row({0, 0}), row({0})}); });
}

template <class Dtype>
void test_multi_channel_bin() {
  // Two channels of 16 pixels. Class 1 is one pixel; the negatives of its channel are six easy ones and nine with
  // p = 0.3, so that key = 7 keeps the bins from 1 on. Class 2 is nowhere: its channel keeps all.
  std::vector<double> logits, target(16, 0.0);
  target[0] = 1;
  for (int i = 0; i < 16; ++i) logits.push_back(i == 0 ? 0 : logit(i <= 6 ? 0.1 : 0.3));
  for (int i = 0; i < 16; ++i) logits.push_back(0);
  auto parameter = of_type("MultiChannelBinSigmoidCrossEntropyLoss");
  parameter.mutable_mcbsce_loss_param()->set_key(7);
  // Quarters rounded down: 9 / 4 and 16 / 4.
  const double w_pos = 6. / 7, w_neg = 1. / 7;
  const double loss = w_pos * kLog2 + w_neg * (9 * -std::log1p(-0.3) + 16 * kLog2);
  std::vector<double> gradient;
  // The backward pass takes the easy ones, too.
  for (int i = 0; i < 16; ++i) gradient.push_back(i == 0 ? -0.5 * w_pos : w_neg * (i <= 6 ? 0.1 : 0.3));
  for (int i = 0; i < 16; ++i) gradient.push_back(0.5 * w_neg);
  const Values labels = {{1, 1, 4, 4}, target};
  expect<Dtype>("the bin that only the gradient has", parameter, {{{1, 2, 4, 4}, logits}, labels}, loss, gradient);

  // A further channel and a further image count for nothing; their gradient is what was there, times the loss weight.
  parameter.add_loss_weight(2);
  std::vector<double> more = logits;
  more.resize(2 * 3 * 16, 1.0);
  Net<Dtype> net(parameter, {{{2, 3, 4, 4}, more}, {{2, 1, 4, 4}, std::vector<double>(32)}});
  for (int i = 0; i < 16; ++i) net.bottom[1]->mutable_cpu_data()[i] = static_cast<Dtype>(target[i]);
  for (int i = 32; i < 96; ++i) net.bottom[0]->mutable_cpu_diff()[i] = 7;
  check(std::fabs(net.forward() - 2 * loss) <= 1e-5 * loss, "further channels", loss);
  net.backward();
  for (int i = 0; i < 96; ++i) {
    const double expected = i < 32 ? 2 * gradient[i] : 14, got = net.bottom[0]->cpu_diff()[i];
    check(std::fabs(got - expected) <= 1e-6, "further channels", i, got, expected);
  }

  parameter = of_type("MultiChannelBinSigmoidCrossEntropyLoss");
  check(parameter.mcbsce_loss_param().num_label() == 2 && parameter.mcbsce_loss_param().key() == 10, "defaults");
  expect<Dtype>("no positives", parameter, {{{1, 2, 1, 4}, std::vector<double>(8)}, row({0, 3, 255, 0})}, 0,
                std::vector<double>(8));
  Net<Dtype> tiny(parameter, {{{1, 2, 1, 1}, {0, 0}}, row({0})});
  check(std::isnan(tiny.forward()), "less than four negatives and no positive");
  parameter.mutable_mcbsce_loss_param()->set_key(0);
  Net<Dtype> no_key(parameter, {{{1, 2, 4, 4}, logits}, labels});
  check(std::isnan(no_key.forward()), "key = 0");
  parameter.mutable_mcbsce_loss_param()->set_num_label(3);
  expect_failure("channels", "a channel of logits", [&] { Net<Dtype>(parameter, {{{1, 2, 4, 4}, logits}, labels}); });
  parameter.mutable_mcbsce_loss_param()->set_num_label(2);
  expect_failure("planes", "one plane", [&] { Net<Dtype>(parameter, {{{1, 2, 4, 4}, logits}, row({0})}); });
}

// A NaN is in no bin: no loss, and a gradient only where every negative has one.
template <class Dtype>
void test_nan_on_a_negative() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto slope = [&](const caffe::LayerParameter& parameter, const Values& logits, const Values& target) {
    Net<Dtype> net(parameter, {logits, target});
    check(!std::isnan(net.forward()), parameter.type().c_str());
    net.backward();
    return static_cast<double>(net.bottom[0]->cpu_diff()[logits.values.size() - 1]);
  };
  const Values logits = row({0, 3, 3, 3, 3, nan}), target = row({1, 0, 0, 0, 0, 0});
  auto parameter = of_type("BinLoss");
  check(std::isnan(slope(parameter, logits, target)), "bin loss: too few negatives");
  parameter.mutable_bin_loss_param()->set_key(1);
  check(slope(parameter, logits, target) == 0, "bin loss: the top bin");
  parameter.mutable_bin_loss_param()->set_key(0);
  check(slope(parameter, logits, target) == 0, "bin loss: none asked for");

  parameter = of_type("MultiChannelBinSigmoidCrossEntropyLoss");
  parameter.mutable_mcbsce_loss_param()->set_num_label(1);
  check(std::isnan(slope(parameter, logits, target)), "multi-channel: too few negatives");
  check(std::isnan(slope(parameter, logits, row({0, 0, 0, 0, 0, 0}))), "multi-channel: no positives");
  parameter.mutable_mcbsce_loss_param()->set_key(1);
  check(slope(parameter, logits, target) == 0, "multi-channel: the top bin");
}

template <class Dtype>
void test_top_k() {
  auto parameter = of_type("SigmoidTopKCrossEntropyLoss");
  parameter.mutable_topk_loss_param()->set_k(2);
  // A positive; of three equal negatives, two have a place, which all three share.
  const double p1 = 1 / (1 + std::exp(-1.)), p2 = 1 / (1 + std::exp(-2.));
  const double share = 1. / 3 * 2 / 3;
  expect<Dtype>("ties", parameter, {row({2, 1, 0, 1, 1}), row({1, 0, 0, 0, 0})},
                2. / 3 * softplus(-2) + 1. / 3 * 2 * softplus(1),
                {2. / 3 * (p2 - 1), share * p1, 0, share * p1, share * p1});
  expect<Dtype>("fewer than k", parameter, {row({0, 0}), row({1, 0})}, kLog2, {-0.25, 0.25});
  expect<Dtype>("no positives", parameter, {row({0, 1}), row({0, 0})}, 0, {0, 0});
  expect<Dtype>("no negatives", parameter, {row({0, 1}), row({1, 1})}, 0, {0, 0});
  expect<Dtype>("images", parameter, {{{2, 1, 1, 2}, {0, 0, 0, 0}}, {{2, 1, 1, 2}, {1, 0, 0, 0}}}, kLog2 / 2,
                {-0.125, 0.125, 0, 0});
  expect<Dtype>("far out", parameter, {row({-1e4, 1e4}), row({1, 0})}, 1e4, {-0.5, 0.5});
  expect_failure("labels", "labels 0 and 1, got 255",
                 [&] { Net<Dtype>(parameter, {row({0, 0}), row({1, 255})}).forward(); });
  parameter.mutable_loss_param()->set_ignore_label(255);
  expect<Dtype>("ignored", parameter, {row({0, 9, 0}), row({1, 255, 0})}, kLog2, {-0.25, 0, 0.25});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  expect_failure("NaN", "NaN", [&] { Net<Dtype>(parameter, {row({nan, 0}), row({1, 0})}).forward(); });

  // 0.5 of three is rounded up; the default is 0.14, and one is kept at least.
  parameter = of_type("SigmoidTopKCrossEntropyLoss");
  expect<Dtype>("default", parameter, {row({0, 0, -1, -2}), row({1, 0, 0, 0})}, kLog2, {-0.25, 0.25, 0, 0});
  parameter.mutable_topk_loss_param()->set_ratio(0.5);
  expect<Dtype>("half", parameter, {row({0, 0, 0, -2}), row({1, 0, 0, 0})}, 2. / 3 * kLog2 + 1. / 3 * 2 * kLog2,
                {-1. / 3, 1. / 6, 1. / 6, 0});
  parameter.mutable_topk_loss_param()->set_k(1);
  expect_failure("both", "not both", [&] { Net<Dtype>(parameter, {row({0}), row({0})}); });
  parameter = of_type("SigmoidTopKCrossEntropyLoss");
  parameter.mutable_topk_loss_param()->set_ratio(1.5);
  expect_failure("ratio", "up to 1", [&] { Net<Dtype>(parameter, {row({0}), row({0})}); });
  parameter = of_type("SigmoidTopKCrossEntropyLoss");
  parameter.mutable_topk_loss_param()->set_k(0);
  expect_failure("k = 0", "at least one", [&] { Net<Dtype>(parameter, {row({0}), row({0})}); });
}

template <class Dtype>
void test_segment_loss() {
  // A vessel of ten pixels in a row, its range a row to either side; the prediction has p = 0.9 where it is certain.
  const int height = 5, width = 10;
  std::vector<double> right, missed, target, ids;
  for (int i = 0; i < height * width; ++i) {
    const int line = i / width;
    target.push_back(line == 2);
    ids.push_back(line == 2 ? -1 : line == 1 || line == 3 ? 1 : 0);
    right.push_back(logit(line == 2 ? 0.9 : 0.1));
    missed.push_back(logit(0.1));
  }
  const auto scores = [&](std::vector<double> vessel) {
    vessel.insert(vessel.begin(), height * width, 0.0);
    return Values{{1, 2, height, width}, vessel};
  };
  const Values labels = {{1, 1, height, width}, target}, id_map = {{1, 1, height, width}, ids};
  // The probabilities are float, and the gradient has weights of its own.
  const auto expect_close = [&](const char* what, const Values& of, const Values& labelled, double loss, double vessel,
                                double near, double background) {
    Net<Dtype> net(of_type("SoftmaxSegmentLoss"), {of, labelled, id_map});
    const double got = net.forward();
    check(std::fabs(got - loss) <= 1e-6 * loss, what, got, loss);
    net.backward();
    for (int i = 0; i < height * width; ++i) {
      const double expected = ids[i] < 0 ? vessel : ids[i] > 0 ? near : background;
      const double of_vessel = net.bottom[0]->cpu_diff()[height * width + i], of_other = net.bottom[0]->cpu_diff()[i];
      check(std::fabs(of_vessel - expected) <= 1e-7, what, i, of_vessel, expected);
      check(std::fabs(of_other + expected) <= 1e-7, what, i, of_other, expected);
    }
  };
  const double easy = -std::log(0.9), hard = -std::log(0.1);
  expect_close("similarity 1", scores(right), labels, (0.9 * 10 + 0.1 * 40) * easy / 50, 0.8 * -0.1 / 50,
               0.35 * 0.1 / 50, 0.2 * 0.1 / 50);
  expect_close("missed", scores(missed), labels, (0.9 * 10 * 2 * hard + 0.1 * (20 * 2 + 20) * easy) / 50,
               2 * 0.8 * -0.9 / 50, 2 * 0.35 * 0.1 / 50, 0.2 * 0.1 / 50);

  // A false alarm outside of the range weighs twice as much. Void pixels have no loss.
  std::vector<double> alarm = right, with_void = target;
  alarm[0] = logit(0.9);
  with_void[49] = 255;
  Net<Dtype> net(of_type("SoftmaxSegmentLoss"), {scores(alarm), {{1, 1, height, width}, with_void}, id_map});
  const double got = net.forward(), expected = (0.9 * 10 * easy + 0.1 * (38 * easy + 2 * hard)) / 49;
  check(std::fabs(got - expected) <= 1e-6 * expected, "false alarm", got, expected);
  net.backward();
  check(net.bottom[0]->cpu_diff()[49] == 0 && net.bottom[0]->cpu_diff()[99] == 0, "void");
  check(std::fabs(net.bottom[0]->cpu_diff()[50] - 2 * 0.2 * 0.9 / 49) <= 1e-8, "false alarm");

  const auto parameter = of_type("SoftmaxSegmentLoss");
  expect_failure("two bottoms", "number of bottoms", [&] { Net<Dtype>(parameter, {scores(right), labels}); });
  expect_failure("one score", "background and vessel", [&] { Net<Dtype>(parameter, {labels, labels, id_map}); });
  expect_failure("ids", "one plane of ids", [&] { Net<Dtype>(parameter, {scores(right), labels, row({0})}); });
  Values large = id_map;
  large.values[0] = 1e9;
  expect_failure("large", "too large", [&] { Net<Dtype>(parameter, {scores(right), labels, large}).forward(); });
}

void test_thinning() {
  // A bar of three rows comes down to its middle row, without its ends; a line stays.
  const int height = 7, width = 12;
  std::vector<bool> bar(height * width), line(height * width);
  for (int column = 1; column < 11; ++column) {
    for (int r = 2; r <= 4; ++r) bar[r * width + column] = true;
    line[3 * width + column] = true;
  }
  caffe::rarepixel::Thin(height, width, &bar);
  std::vector<bool> same = line;
  caffe::rarepixel::Thin(height, width, &same);
  check(same == line, "a line");
  int left = 0, elsewhere = 0;
  for (int i = 0; i < height * width; ++i) (i / width == 3 ? left : elsewhere) += bar[i];
  check(elsewhere == 0 && left >= 8 && left <= 10, "a bar", left, elsewhere);
}

template <class Dtype>
void test_labels_have_no_gradient() {
  for (const char* type : {"SigmoidRandomDropCrossEntropyLoss", "BinLoss", "SigmoidTopKCrossEntropyLoss"}) {
    Net<Dtype> net(of_type(type), {row({0, 0}), row({1, 0})});
    net.forward();
    net.bottom[0]->mutable_cpu_diff()[0] = 7;
    net.layer->Backward({&net.top}, {false, false}, net.bottom);
    check(net.bottom[0]->cpu_diff()[0] == 7, "nothing to propagate", type);
    expect_failure("labels", "no gradient for the labels",
                   [&] { net.layer->Backward({&net.top}, {true, true}, net.bottom); });
  }
}

template <class Dtype>
void test_all() {
  test_random_drop<Dtype>();
  test_drops_as_often_as_it_should<Dtype>();
  test_bin_loss<Dtype>();
  test_multi_channel_bin<Dtype>();
  test_nan_on_a_negative<Dtype>();
  test_top_k<Dtype>();
  test_segment_loss<Dtype>();
  test_labels_have_no_gradient<Dtype>();
}

}  // namespace
}  // namespace rarepixel::test

int main() {
  using namespace rarepixel::test;
  test_generator();
  test_blob();
  test_registry();
  test_thinning();
  test_all<float>();
  test_all<double>();
  return check.result();
}
