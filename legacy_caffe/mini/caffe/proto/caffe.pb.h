// The messages that the layers read, written by hand: names and defaults as in ../../../caffe.proto, accessors as
// protobuf would generate them.
#ifndef CAFFE_PROTO_CAFFE_PB_H_
#define CAFFE_PROTO_CAFFE_PB_H_

#include <cstdint>
#include <string>
#include <vector>

namespace caffe {

class LossParameter {
 public:
  bool has_ignore_label() const { return has_ignore_label_; }
  std::int32_t ignore_label() const { return ignore_label_; }
  void set_ignore_label(std::int32_t value) {
    ignore_label_ = value;
    has_ignore_label_ = true;
  }

 private:
  bool has_ignore_label_ = false;
  std::int32_t ignore_label_ = 0;
};

class SigmoidRandomDropCELossParameter {
 public:
  enum ScheduleType { LINEAR = 0, SQU = 1, LOG = 2 };
  ScheduleType schedule_type() const { return schedule_type_; }
  void set_schedule_type(ScheduleType value) { schedule_type_ = value; }

 private:
  ScheduleType schedule_type_ = LOG;
};

class BinLossParameter {
 public:
  std::int32_t key() const { return key_; }
  void set_key(std::int32_t value) { key_ = value; }
  std::int32_t lambda() const { return lambda_; }
  void set_lambda(std::int32_t value) { lambda_ = value; }

 private:
  std::int32_t key_ = 20, lambda_ = 1;
};

class MCBSCELossParameter {
 public:
  std::uint32_t num_label() const { return num_label_; }
  void set_num_label(std::uint32_t value) { num_label_ = value; }
  float ratio() const { return ratio_; }
  void set_ratio(float value) { ratio_ = value; }
  std::uint32_t key() const { return key_; }
  void set_key(std::uint32_t value) { key_ = value; }

 private:
  std::uint32_t num_label_ = 2;
  float ratio_ = 1;
  std::uint32_t key_ = 10;
};

class SigmoidTopKCrossEntropyLossParameter {
 public:
  bool has_ratio() const { return has_ratio_; }
  float ratio() const { return ratio_; }
  void set_ratio(float value) {
    ratio_ = value;
    has_ratio_ = true;
  }
  bool has_k() const { return has_k_; }
  std::uint32_t k() const { return k_; }
  void set_k(std::uint32_t value) {
    k_ = value;
    has_k_ = true;
  }

 private:
  bool has_ratio_ = false, has_k_ = false;
  float ratio_ = 0.14f;
  std::uint32_t k_ = 0;
};

class LayerParameter {
 public:
  const std::string& name() const { return name_; }
  void set_name(const std::string& value) { name_ = value; }
  const std::string& type() const { return type_; }
  void set_type(const std::string& value) { type_ = value; }

  int loss_weight_size() const { return static_cast<int>(loss_weight_.size()); }
  float loss_weight(int index) const { return loss_weight_[index]; }
  void add_loss_weight(float value) { loss_weight_.push_back(value); }

  const LossParameter& loss_param() const { return loss_param_; }
  LossParameter* mutable_loss_param() { return &loss_param_; }
  const SigmoidRandomDropCELossParameter& randrop_loss_param() const { return randrop_loss_param_; }
  SigmoidRandomDropCELossParameter* mutable_randrop_loss_param() { return &randrop_loss_param_; }
  const BinLossParameter& bin_loss_param() const { return bin_loss_param_; }
  BinLossParameter* mutable_bin_loss_param() { return &bin_loss_param_; }
  const MCBSCELossParameter& mcbsce_loss_param() const { return mcbsce_loss_param_; }
  MCBSCELossParameter* mutable_mcbsce_loss_param() { return &mcbsce_loss_param_; }
  const SigmoidTopKCrossEntropyLossParameter& topk_loss_param() const { return topk_loss_param_; }
  SigmoidTopKCrossEntropyLossParameter* mutable_topk_loss_param() { return &topk_loss_param_; }

 private:
  std::string name_, type_;
  std::vector<float> loss_weight_;
  LossParameter loss_param_;
  SigmoidRandomDropCELossParameter randrop_loss_param_;
  BinLossParameter bin_loss_param_;
  MCBSCELossParameter mcbsce_loss_param_;
  SigmoidTopKCrossEntropyLossParameter topk_loss_param_;
};

}  // namespace caffe

#endif  // CAFFE_PROTO_CAFFE_PB_H_
