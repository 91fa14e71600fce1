"""Convolution of each channel by itself, under the names of Caffe's forks."""

from __future__ import annotations

from dataclasses import replace

from .._layer import LayerSpec, register
from .convolution import Convolution


@register("DepthwiseConvolution", "ConvolutionDepthwise")
class DepthwiseConvolution(Convolution):
    """A convolution of as many groups as outputs, which the file need not say."""

    def __init__(self, spec: LayerSpec) -> None:
        message = type(spec.message)()
        message.CopyFrom(spec.message)
        options = message.convolution_param
        if not options.HasField("group"):
            options.group = options.num_output
        if options.group != options.num_output:
            raise spec.error(f"expected group to be num_output={options.num_output} or left out, got {options.group}")
        super().__init__(replace(spec, message=message))
