"""Layers that change numbers one by one, and Softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layer import Elementwise, Layer, LayerSpec, Shape, register


@register("ReLU")
class ReLU(Layer):
    """max(x, 0) + negative_slope min(x, 0); a second top is 1 where x is positive (DecoupledNet)."""

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1, 2)
        super().__init__(spec)
        self.negative_slope = spec.message.relu_param.negative_slope

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return shapes * self.num_tops

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        top = F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)
        return top if self.num_tops == 1 else (top, (x > 0).to(x.dtype))


@register("ReLU6")
class ReLU6(Elementwise):
    """min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)


@register("PReLU")
class PReLU(Elementwise):
    """max(x, 0) + slope min(x, 0), the slope learned for each channel or for all."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.prelu_param
        filler = options.filler if options.HasField("filler") else None
        self.channel_shared = options.channel_shared
        self.slope = spec.blob(() if self.channel_shared else (spec.channels(),), filler, 0.25)

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

    promotes = True

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.power_param
        self.power, self.scale, self.shift = options.power, options.scale, options.shift

    def forward(self, x: Tensor) -> Tensor:
        if self.power * self.scale == 0:  # x does not matter, not even where it is infinite
            return torch.full_like(x, self.shift).pow(self.power)
        linear: Tensor = x * self.scale + self.shift
        return linear if self.power == 1 else linear.pow(self.power)


@register("ELU")
class ELU(Elementwise):
    """x where it is positive, alpha (exp(x) - 1) elsewhere."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.alpha = spec.message.elu_param.alpha

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)


@register("BNLL")
class BNLL(Elementwise):
    """log(1 + exp(x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, threshold=50)  # beyond which it is x, also in double precision


@register("Swish")
class Swish(Elementwise):
    """x / (1 + exp(-beta x))."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.beta = spec.message.swish_param.beta

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = (self.beta * x).sigmoid()
        return x * gate


@register("AbsVal")
class AbsVal(Elementwise):
    """|x|."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


@register("Clip")
class Clip(Elementwise):
    """x, but at least min and at most max."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.clip_param
        if not (options.HasField("min") and options.HasField("max") and options.min <= options.max):
            low, high = (getattr(options, name) if options.HasField(name) else "none" for name in ("min", "max"))
            raise spec.error(f"expected min and max, in this order, got {low} and {high}")
        self.min, self.max = options.min, options.max

    def forward(self, x: Tensor) -> Tensor:
        # Caffe's slope at the bounds is 1, that of clamp 0 from torch 2.14 on.
        within = (x >= self.min) & (x <= self.max)
        return torch.where(within, x, x.detach().clamp(self.min, self.max))


@register("Threshold")
class Threshold(Elementwise):
    """1 where x is above a threshold, 0 elsewhere; without a gradient."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.threshold = spec.message.threshold_param.threshold

    def forward(self, x: Tensor) -> Tensor:
        above: Tensor = x > self.threshold
        return above.to(x.dtype)


def _log_of_base(spec: LayerSpec, base: float) -> float:
    """The logarithm of a base, which is e if it is -1."""
    if base == -1:
        return 1.0
    if not 0 < base < math.inf:
        raise spec.error(f"expected a base above 0, or -1 for e, got {base}")
    return math.log(base)


@register("Exp")
class Exp(Elementwise):
    """base ^ (shift + scale x)."""

    promotes = True

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.exp_param
        log_base = _log_of_base(spec, options.base)
        self.scale, self.shift = log_base * options.scale, log_base * options.shift

    def forward(self, x: Tensor) -> Tensor:
        linear: Tensor = x * self.scale + self.shift
        return linear.exp()


@register("Log")
class Log(Elementwise):
    """The logarithm to a base of shift + scale x."""

    promotes = True

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.log_param
        self.log_base = _log_of_base(spec, options.base)
        if self.log_base == 0:
            raise spec.error("expected a base other than 1, got 1")
        self.scale, self.shift = options.scale, options.shift

    def forward(self, x: Tensor) -> Tensor:
        linear: Tensor = x * self.scale + self.shift
        return linear.log() / self.log_base


def _ratio(spec: LayerSpec, options: Any) -> float:
    """Which share is dropped."""
    ratio: float = options.dropout_ratio
    if not 0 <= ratio < 1:
        raise spec.error(f"expected dropout_ratio from 0 to below 1, got {ratio}")
    return ratio


@register("Dropout")
class Dropout(Elementwise):
    """In training drops a share of the numbers and scales the others up; else nothing.

    In forks ``sample_weights_test`` drops in the test phase too, so that outputs can be averaged over several runs.
    Without ``scale_train`` nothing is scaled up in training, and all is scaled down by the share that stays else.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.dropout_param
        self.ratio = _ratio(spec, options)
        self.always, self.scale_train = options.sample_weights_test, options.scale_train

    def forward(self, x: Tensor) -> Tensor:
        drops = self.training or self.always
        dropped = F.dropout(x, self.ratio, drops)
        # In training it undoes what PyTorch scales up, else it is the scaling.
        return dropped if self.scale_train else dropped * (1 - self.ratio)


@register("SpatialDropout")
class SpatialDropout(Elementwise):
    """In training drops a share of the channels of each image and scales the others up; else nothing."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.ratio = self._share(spec)
        spec.size(1)

    def _share(self, spec: LayerSpec) -> float:
        return _ratio(spec, spec.message.spatial_dropout_param)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = F.dropout(x.new_ones(x.shape[:2]), self.ratio)
        return x * kept.reshape(*x.shape[:2], *(1,) * (x.dim() - 2))


@register("SpatialDropoutLayer")
class SpatialDropoutLayer(SpatialDropout):
    """ENet's, a Python layer: ``param_str`` has the share, ``p``, and the ``phase``; of 'TRAIN' it is SpatialDropout.

    In another phase nothing is dropped and all is scaled up, as published.
    """

    reads_param_str = True

    def _share(self, spec: LayerSpec) -> float:
        options = spec.param_str()
        self.drops = options.get("phase") == "TRAIN"
        try:
            ratio = float(options["p"])
        except (KeyError, TypeError, ValueError):
            raise spec.error(f"expected a number p in param_str, got {options.get('p')!r}") from None
        if not 0 <= ratio < 1:
            raise spec.error(f"expected p in param_str from 0 to below 1, got {ratio}")
        return ratio

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.drops else x / (1 - self.ratio)
