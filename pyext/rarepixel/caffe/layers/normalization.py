"""LRN and BatchNorm."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._layer import Elementwise, LayerSpec, register


@register("LRN")
class LRN(Elementwise):
    """Local response normalization, across the channels or within each.

    Across: x / (k + alpha / n * the sum of x^2 over n channels) ^ beta. Within: over n x n pixels, with k = 1.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.lrn_param
        self.local_size = options.local_size
        self.alpha, self.beta, self.k = options.alpha, options.beta, options.k
        self.within = options.norm_region == 1
        if self.local_size % 2 != 1:
            raise spec.error(f"expected an odd local_size, got {self.local_size}")

    def forward(self, x: Tensor) -> Tensor:
        if not self.within:
            return F.local_response_norm(x, self.local_size, self.alpha, self.beta, self.k)
        mean = F.avg_pool2d(x.square(), self.local_size, 1, self.local_size // 2)
        factor: Tensor = (1 + self.alpha * mean).pow(-self.beta)
        return x * factor


class BatchNorm(Elementwise):
    """(x - mean) / sqrt(variance + eps), without scale and bias.

    Mean and variance are those of the batch in training and running averages else; ``use_global_stats`` decides for
    both. The buffers are Caffe's blobs: sums that decay, and the number by which to divide them.
    """

    blob_names: ClassVar[tuple[str, ...]] = ("mean", "variance", "count")
    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.batch_norm_param
        self.eps = options.eps
        self.moving_average_fraction = options.moving_average_fraction
        self.use_global_stats = options.use_global_stats if options.HasField("use_global_stats") else None
        channels = self._channels(spec)
        self.register_buffer("mean", spec.blob((channels,)).detach())
        self.register_buffer("variance", spec.blob((channels,)).detach())
        self.register_buffer("count", torch.zeros(1))

    def _channels(self, spec: LayerSpec) -> int:
        shape = spec.shapes[0]
        return 1 if shape is not None and len(shape) == 1 else spec.channels()

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1] if x.dim() > 1 else 1
        if channels != self.mean.numel():
            raise self.error(f"expected {self.mean.numel()} channels, got shape {tuple(x.shape)}")
        shaped = x if x.dim() > 1 else x[:, None]
        stored = not self.training if self.use_global_stats is None else self.use_global_stats
        if stored:
            factor = torch.where(self.count == 0, 0.0, 1 / self.count)
            normed = F.batch_norm(shaped, self.mean * factor, self.variance * factor, eps=self.eps)
        else:
            if shaped.numel():
                self._update(shaped.detach())
            alone = shaped.numel() == channels  # one number is its own mean, which PyTorch refuses
            normed = 0 * shaped if alone else F.batch_norm(shaped, None, None, training=True, eps=self.eps)
        return normed.view_as(x)

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        dims = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x.to(self.mean.dtype), dims, correction=0)
        pixels = x.numel() / x.shape[1]
        unbiased = pixels / (pixels - 1) if pixels > 1 else 1.0
        self._add(mean, unbiased * variance)

    def _add(self, mean: Tensor, variance: Tensor) -> None:
        """Adds a batch to the buffers."""
        for total, value in ((self.mean, mean), (self.variance, variance), (self.count, 1.0)):
            total.mul_(self.moving_average_fraction).add_(value)


class ScaledBatchNorm(BatchNorm):
    """NVIDIA's: scale (x - mean) / sqrt(variance + eps) + bias, with eps of at least 1e-5.

    The buffers are averages, and the number to divide them by is 1 once there are any.
    """

    blob_names = (*BatchNorm.blob_names, "scale", "bias")

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        options = spec.message.batch_norm_param
        self.eps = max(self.eps, 1e-5)
        shape = (self.mean.numel(),)
        self.scale = spec.blob(shape, options.scale_filler if options.HasField("scale_filler") else None, 1.0)
        self.bias = spec.blob(shape, options.bias_filler if options.HasField("bias_filler") else None)

    def forward(self, x: Tensor) -> Tensor:
        normed = super().forward(x)
        shape = (1, -1, *(1,) * (x.dim() - 2)) if x.dim() > 1 else (-1,)
        return normed * self.scale.view(shape) + self.bias.view(shape)

    def _add(self, mean: Tensor, variance: Tensor) -> None:
        # Of the first batch they are all. Not so in Caffe, where a net that goes on learning forgets them at once.
        share = torch.where(self.count == 0, 1.0, 1 - self.moving_average_fraction).to(self.mean.dtype)
        self.mean.lerp_(mean, share)
        self.variance.lerp_(variance, share)
        self.count.fill_(1)


@register("BatchNorm")
def batch_norm(spec: LayerSpec) -> nn.Module:
    """Caffe's layer, or NVIDIA's with a scale and a bias."""
    options = spec.message.batch_norm_param
    scaled = options.scale_bias or options.HasField("scale_filler") or options.HasField("bias_filler")
    return ScaledBatchNorm(spec) if scaled else BatchNorm(spec)
