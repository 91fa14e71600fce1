"""Small files of every kind that is read: what the tests of the readers start from."""

from __future__ import annotations

import numpy as np

from rarepixel.caffe import _blobs, _schema

NET = r"""
name: "seed"  # a comment { with braces
input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 7 }
input: "label" input_shape { dim: 1 dim: 1 dim: 9 dim: 7 }
input: "ids" input_shape { dim: 1 dim: 1 dim: 9 dim: 7 }
force_backward: true
state { phase: TRAIN level: 1 stage: "fine" }
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 decay_mult: 1 } param { name: "shared" lr_mult: 2 decay_mult: 0 }
  convolution_param {
    num_output: 4 kernel_size: 3 pad: 1 stride: 1 dilation: 1 group: 1 engine: CAFFE
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: 'constant' value: -1e-3 }
  }
}
layer: [
  { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param < negative_slope: .1 > },
  { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_h: 3 kernel_w: 2
    stride: 2 round_mode: FLOOR } }
]
layer {
  name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 2 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "bilinear" } }
  include { phase: TRAIN not_stage: "coarse" min_level: 0 }
}
layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" crop_param { axis: 2 offset: 0 offset: 0 } }
layer { name: "slice" type: "Slice" bottom: "crop" top: "one" top: "two" slice_param { slice_point: 1 } }
layer { name: "quiet" type: "Silence" bottom: "two" }
layer {
  type: "Python" bottom: "crop" bottom: "label" bottom: "ids" top: "segment" loss_weight: 0.5
  python_param { module: "losses" layer: "SoftmaxSegmentLossLayer" param_str: "{'void': 255, \"levels\": [1, 2.5]}" }
}
layer {
  name: "loss" type: "SigmoidRandomDropCrossEntropyLoss" bottom: "one" bottom: "label" top: "loss"
  randrop_loss_param { schedule_type: SQU } loss_param { ignore_label: 255 normalization: VALID }
  bin_loss_param { key: 10 } mcbsce_loss_param { num_label: 4 } topk_loss_param { ratio: 0.2 }
}
"""

OLD_NET = """
name: "old"
input: "data" input: "label"
input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 input_dim: 1 input_dim: 1 input_dim: 1 input_dim: 1
layers {
  name: "conv1_1" type: CONVOLUTION bottom: "data" top: "conv1_1"
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 4 pad: 1 kernel_size: 3 }
}
layers { name: "relu1_1" type: RELU bottom: "conv1_1" top: "conv1_1" }
layers {
  name: "fc" type: INNER_PRODUCT bottom: "conv1_1" top: "fc" param: "w" param: "b" blob_share_mode: PERMISSIVE
  inner_product_param { num_output: 2 }
}
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" loss_weight: 2
  include: { phase: TRAIN } }
"""

SOLVER = """
net: "train.prototxt"
test_iter: 10
test_interval: 500
base_lr: 1e-8
lr_policy: "multistep" gamma: 0.1 stepvalue: 100 stepvalue: 200
momentum: 0.9
weight_decay: 0.0005
regularization_type: "L2"
iter_size: 10
clip_gradients: 35
max_iter: 1000
snapshot: 500 snapshot_prefix: "models/x"
solver_mode: CPU
type: "SGD"
"""

EMBEDDED_SOLVER = (
    'solver_type: ADAGRAD base_lr: 0.1 lr_policy: "fixed"\nnet_param {\n  layer { name: "a" type: "Silence" }\n}\n'
)


def weights() -> bytes:
    """A caffemodel of today's form."""
    message = _schema.NetParameter(name="seed")
    layer = message.layer.add(name="conv", type="Convolution", bottom=["data"], top=["conv"], phase=0)
    layer.param.add(lr_mult=1.0)
    layer.convolution_param.num_output = 2
    layer.convolution_param.kernel_size.append(3)
    for shape in ((2, 3, 3, 3), (2,)):
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        layer.blobs.append(_blobs.make_blob(values))
    message.layer.add(name="bn", type="BatchNorm").blobs.append(_blobs.make_blob(np.ones((1, 2), np.float64)))
    return bytes(message.SerializeToString())


def old_weights() -> bytes:
    """A caffemodel of 2014: V1 layers, blobs with four numbers for a shape."""
    message = _schema.NetParameter(name="old")
    layer = message.layers.add(name="conv1_1", type=4)
    layer.blobs_lr.extend([1.0, 2.0])
    for num, channels, height, width in ((2, 3, 3, 3), (1, 1, 1, 2)):
        blob = layer.blobs.add(num=num, channels=channels, height=height, width=width)
        blob.data.extend(range(num * channels * height * width))
    message.layers.add(name="relu1_1", type=18)
    return bytes(message.SerializeToString())


FORK_NET = r"""
layer {
  name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param { source: "D:\data\train.txt" batch_size: 2 shuffle: true sizes: [1, 2] more { on: true } }
  transform_param { mean_value: 1 mean_value: 2 mean_value: 3 resize_param { height: 300 } crop_size: "x" }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 hole: 2 pad: 2 }
}
layer {
  name: "up" type: "Deconvolution" bottom: "conv" top: "up" param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 4 stride: 2 bias_term: false }
}
layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" }
layer { type: "SegAccuracy" bottom: "crop" bottom: "label" top: "seen" seg_accuracy_param { ignore_label: 255 } }
layer { type: "SoftmaxWithLoss" bottom: "crop" bottom: "label" }
"""

FORK_OLD_NET = """
layers {
  name: "data" type: IMAGE_SEG_DATA top: "data" top: "label"
  image_data_param { source: 'x' label_type: PIXEL batch_size: 1 } include: { phase: TRAIN }
}
layers { name: "pool" type: POOLING bottom: "data" top: "pool" top: "mask" pooling_param { kernel_size: 2 stride: 2 } }
layers {
  name: "back" type: UNPOOLING bottom: "pool" bottom: "mask" top: "back"
  unpooling_param { unpool: MAX kernel_size: 2 stride: 2 }
}
layers { name: "fc" type: SPLIT bottom: "back" top: "fc" strict_dim: false }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" softmaxloss_param { ignore_label: 255 } }
"""

FORK_SOLVER = (
    SOLVER.replace("solver_mode: CPU", 'solver_mode: "GPU"')
    + 'eval_type: "detection" monitor_test: true device_id: [0, 1] log_param { every: 10 path: "a\\b" }\n'
)
