"""Layers that change numbers one by one, and Softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import Elementwise, LayerSpec, register


@register("ReLU")
class ReLU(Elementwise):
    """max(x, 0) + negative_slope min(x, 0)."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.negative_slope = spec.message.relu_param.negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)


@register("PReLU")
class PReLU(Elementwise):
    """max(x, 0) + slope min(x, 0), the slope learned for each channel or for all."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.prelu_param
        filler = options.filler if options.HasField("filler") else None
        self.channel_shared = options.channel_shared
        self.slope = spec.blob(() if self.channel_shared else (self._channels(spec),), filler, 0.25)

    def _channels(self, spec: LayerSpec) -> int:
        channels = spec.size(1)
        if channels is None:
            if not spec.stored or not spec.stored[0]:
                raise spec.unknown(1)
            channels = spec.stored[0][-1]
        return channels

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope.reshape(-1))


@register("Sigmoid")
class Sigmoid(Elementwise):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()


@register("TanH")
class TanH(Elementwise):
    """tanh(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


@register("Softmax")
class Softmax(Elementwise):
    """exp(x) over the sum of it along an axis."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.axis = spec.message.softmax_param.axis
        spec.size(self.axis)

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(self.axis)


@register("Power")
class Power(Elementwise):
    """(shift + scale x) ^ power."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.power_param
        self.power, self.scale, self.shift = options.power, options.scale, options.shift

    def forward(self, x: Tensor) -> Tensor:
        if self.power * self.scale == 0:  # x does not matter, not even where it is infinite
            return torch.full_like(x, self.shift).pow(self.power)
        linear: Tensor = x * self.scale + self.shift
        return linear if self.power == 1 else linear.pow(self.power)


@register("Dropout")
class Dropout(Elementwise):
    """In training drops a share of the numbers and scales the others up; else nothing."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.ratio = spec.message.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise spec.error(f"expected dropout_ratio from 0 to below 1, got {self.ratio}")

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.ratio, self.training)
