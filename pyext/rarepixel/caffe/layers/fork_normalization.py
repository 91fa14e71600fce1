"""Normalizations of Caffe's forks: BN of SegNet, DeconvNet and PSPNet, Normalize of SSD."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._layer import Elementwise, Layer, LayerSpec, Shape, register
from ._half_types import widened

_INFERENCE = 1  # of BNParameter.BNMode
_PSPNETS = {"slope_filler", "bias_filler", "momentum", "eps", "frozen"}
_SEGNETS = {"scale_filler", "shift_filler", "bn_mode"}
_FOREBEARS = {"var_eps", "moving_average", "decay", "axis"}


class _BN(Layer):
    """What both layers share: blobs of shape (1, channels, 1, 1)."""

    most_tops = 1

    def __init__(self, spec: LayerSpec) -> None:
        spec.expect_bottoms(1)
        spec.expect_tops(1, self.most_tops)
        super().__init__(spec)
        self.channels = spec.channels(1)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return (*shapes, *((1, self.channels, 1, 1),) * (self.num_tops - 1))

    def coordinates(self) -> tuple[tuple[float, float], ...] | None:
        return ()

    def blob(self, spec: LayerSpec, filler: Any) -> nn.Parameter:
        """A factor or summand; without a filler 0, as in Caffe."""
        return spec.blob((1, self.channels, 1, 1), filler)

    def check(self, x: Tensor) -> None:
        """Checks the bottom against the weights."""
        if x.dim() < 2 or x.shape[1] != self.channels:
            raise self.error(f"expected {self.channels} channels, got shape {tuple(x.shape)}")

    def normed(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Normed by the batch."""
        weight, bias = weight.flatten(), bias.flatten()
        if x.numel() == self.channels:  # one number is its own mean, which PyTorch refuses
            return 0 * x * _spread(weight, x) + _spread(bias, x)
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def _spread(blob: Tensor, x: Tensor) -> Tensor:
    return blob.reshape(1, -1, *(1,) * (x.dim() - 2))


class SegNetBN(_BN):
    """scale (x - mean) / sqrt(variance + 1e-9) + shift, by mean and variance of the batch, in the test phase too.

    With ``bn_mode: INFERENCE`` it is scale x + shift: mean and variance of the training set are in the two by then,
    which is what the scripts of SegNet and DeconvNet make of weights. To that end a second and a third top are mean and
    variance of the batch, of shape (1, C, 1, 1).
    """

    blob_names = ("scale", "shift")
    most_tops = 3

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.bn_param
        self.inference = options.bn_mode == _INFERENCE
        self.scale = self.blob(spec, options.scale_filler)
        self.shift = self.blob(spec, options.shift_filler)
        if self.inference and self.num_tops > 1:
            raise spec.error(f"expected 1 top with bn_mode INFERENCE, which has no statistics, got {self.num_tops}")

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.check(x)
        if self.inference:
            return x * _spread(self.scale, x) + _spread(self.shift, x)
        normed = self.normed(x, self.scale, self.shift, 1e-9)
        if self.num_tops == 1:
            return normed
        variance, mean = torch.var_mean(x.detach(), [axis for axis in range(x.dim()) if axis != 1], correction=0)
        return normed, *(blob.view(1, -1, 1, 1) for blob in (mean, variance)[: self.num_tops - 1])


class PSPNetBN(_BN):
    """slope (x - mean) / sqrt(variance + eps) + bias.

    Mean and variance are those of the batch in training and running averages else, of which ``momentum`` is the share
    of the old. ``frozen`` takes the averages in training too, and slope and bias do not learn then.

    The layer's forebear has other names for the same, ``decay`` for 1 - momentum, and takes those of the batch in the
    test phase too without ``moving_average``.
    """

    blob_names = ("slope", "bias", "mean", "variance")
    slope: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, spec: LayerSpec, forebear: bool) -> None:
        super().__init__(spec)
        options = spec.message.bn_param
        if options.axis != 1:
            raise spec.error(f"expected axis 1, the only one that is carried over, got {options.axis}")
        self.momentum = 1 - options.decay if forebear else options.momentum
        self.eps = options.var_eps if forebear else options.eps
        self.frozen = options.frozen
        self.averages_in_test = options.moving_average if forebear else True
        first, second = ("scale_filler", "shift_filler") if forebear else ("slope_filler", "bias_filler")
        for name, filler in (("slope", first), ("bias", second)):
            blob = self.blob(spec, getattr(options, filler))
            if self.frozen:  # a parameter without a gradient would still decay
                self.register_buffer(name, blob.detach())
            else:
                self.register_parameter(name, blob)
        self.register_buffer("mean", self.blob(spec, None).detach())
        self.register_buffer("variance", self.blob(spec, None).detach() + float(self.frozen))

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        if self.frozen or (not self.training and self.averages_in_test):
            mean, variance, slope, bias = (blob.flatten() for blob in (self.mean, self.variance, self.slope, self.bias))
            return F.batch_norm(x, mean, variance, slope, bias, eps=self.eps)
        if self.training and x.numel():
            self._update(x.detach())
        return self.normed(x, self.slope, self.bias, self.eps)

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        dims = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x.to(self.mean.dtype), dims, correction=0)
        for average, value in ((self.mean, mean), (self.variance, variance)):
            average.mul_(self.momentum).add_(value.view_as(average), alpha=1 - self.momentum)


@register("BN")
def bn(spec: LayerSpec) -> nn.Module:
    """The layer of the fork that the file is for.

    That is told by the fields: PSPNet's is the one with slope_filler, bias_filler, momentum, eps or frozen, its
    forebear's the one with var_eps, moving_average or decay, and SegNet's has scale_filler, shift_filler and bn_mode
    alone. Where the fields leave it open, four stored blobs are of PSPNet's, two of SegNet's; without any it is
    PSPNet's.
    """
    given = {field.name for field, _ in spec.message.bn_param.ListFields()}
    pspnets, segnets, forebears = (sorted(given & names) for names in (_PSPNETS, _SEGNETS, _FOREBEARS))
    if (pspnets and (segnets or forebears)) or (forebears and "bn_mode" in given):
        raise spec.error(f"expected bn_param with the fields of one fork, got {', '.join(sorted(given))}")
    if forebears or (segnets and "bn_mode" not in given and len(spec.stored) == 4):
        return PSPNetBN(spec, forebear=True)
    if segnets or (not pspnets and len(spec.stored) == 2):
        return SegNetBN(spec)
    return PSPNetBN(spec, forebear=False)


@register("Normalize")
class Normalize(Elementwise):
    """scale x / sqrt(eps + the sum of x^2), the sum over an image or, without ``across_spatial``, over its channels.

    The scale is learned, for each channel or for all.
    """

    blob_names = ("scale",)

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.norm_param
        self.across_spatial, self.channel_shared = options.across_spatial, options.channel_shared
        self.eps = options.eps
        filler = options.scale_filler if options.HasField("scale_filler") else None
        self.scale = spec.blob(() if self.channel_shared else (spec.channels(),), filler, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or self.scale.numel() not in (1, x.shape[1]):
            raise self.error(f"expected a bottom of {self.scale.numel()} channels, got shape {tuple(x.shape)}")
        dims = list(range(1, x.dim())) if self.across_spatial else [1]
        wide = widened(x)  # in which eps is not 0
        length: Tensor = (wide.square().sum(dims, keepdim=True) + self.eps).sqrt()
        return (wide / length).to(x.dtype) * _spread(self.scale, x)
