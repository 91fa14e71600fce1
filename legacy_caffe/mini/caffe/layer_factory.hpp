#ifndef CAFFE_LAYER_FACTORY_HPP_
#define CAFFE_LAYER_FACTORY_HPP_

#include <map>

#include "caffe/common.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

template <typename Dtype>
class Layer;

// Layers by the name of their type. REGISTER_LAYER_CLASS(Name) adds NameLayer before main() runs.
template <typename Dtype>
class LayerRegistry {
 public:
  typedef shared_ptr<Layer<Dtype>> (*Creator)(const LayerParameter&);

  static void AddCreator(const string& type, Creator creator) {
    CHECK_EQ(Creators().count(type), 0u) << "Layer type " << type << " already registered.";
    Creators()[type] = creator;
  }

  static shared_ptr<Layer<Dtype>> CreateLayer(const LayerParameter& param) {
    const auto found = Creators().find(param.type());
    CHECK(found != Creators().end()) << "Unknown layer type: " << param.type();
    return found->second(param);
  }

  static vector<string> LayerTypeList() {
    vector<string> types;
    for (const auto& creator : Creators()) types.push_back(creator.first);
    return types;
  }

 private:
  static std::map<string, Creator>& Creators() {
    static std::map<string, Creator> creators;
    return creators;
  }
};

template <typename Dtype>
class LayerRegisterer {
 public:
  LayerRegisterer(const string& type, typename LayerRegistry<Dtype>::Creator creator) {
    LayerRegistry<Dtype>::AddCreator(type, creator);
  }
};

}  // namespace caffe

#define REGISTER_LAYER_CREATOR(type, creator)                              \
  static ::caffe::LayerRegisterer<float> creator_f_##type(#type, creator); \
  static ::caffe::LayerRegisterer<double> creator_d_##type(#type, creator)

#define REGISTER_LAYER_CLASS(type)                                              \
  template <typename Dtype>                                                     \
  shared_ptr<Layer<Dtype>> Creator_##type##Layer(const LayerParameter& param) { \
    return shared_ptr<Layer<Dtype>>(new type##Layer<Dtype>(param));             \
  }                                                                             \
  REGISTER_LAYER_CREATOR(type, Creator_##type##Layer)

#endif  // CAFFE_LAYER_FACTORY_HPP_
