"""The net of the segment-level loss: a U-Net with large kernels and two decoder heads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Channels and sizes of the kernels of both convolutions, the finest resolution first.
_ENCODER = (
    ((128, 9), (128, 7)),
    ((128, 5), (128, 3)),
    ((256, 3), (64, 3)),
    ((512, 3), (512, 3)),
    ((1024, 3), (1024, 3)),
)
_DECODER = (
    ((128, 7), (128, 9)),  # the finest: once for each head
    ((128, 3), (128, 5)),
    ((256, 3), (256, 3)),
    ((512, 3), (512, 3)),
)
_UP = (128, 128, 256, 512)


class SegmentNet(nn.Module):
    r"""The net of the joint segment-level and pixel-wise losses.

    Yan, Yang and Cheng, "Joint segment-level and pixel-wise losses for deep learning based retinal vessel
    segmentation", IEEE Transactions on Biomedical Engineering 2018.

    As in the prototxt that its authors published: five resolutions with two convolutions each, of 128, 128, 256 and
    then 64, 512 and 1024 channels, with kernels of 9 and 7, 5 and 3, and then 3 pixels a side; dropout behind the
    fourth and the fifth, before the fourth is passed on to the decoder; transposed convolutions of 2×2 back, to each of
    which the encoder's features are joined. The finest resolution of the decoder is there twice: one head is for the
    segment-level loss, one for the pixel-wise loss; each ends with a convolution of 1×1. Weights start as by Caffe's
    "xavier", uniform with a variance of 1 / fan_in, and biases at 0. The authors train biases at twice the rate and
    without weight decay, with SGD at 1e-4, a momentum of 0.99 and a weight decay of 5e-4, on grey images from 0 to 255
    minus their mean.

    What the prototxt does not say is which head makes the final map: it has a softmax on each. :meth:`logits` is the
    mean of both, which is our choice; ``outputs[0]`` and ``outputs[1]`` are the heads themselves. So are ours: images
    of any size (they are padded by zeros at the right and below, and the logits are cut; the authors' are multiples of
    16), ``out_channels=1`` and ``width``.

    Args:
        in_channels: of the image; the authors' is 1.
        out_channels: scores of each head; the authors' 2 are the background and the vessel before a softmax. 1: the
            logit of the vessel.
        width: what all channels are multiplied by. At 1 the net has 36.4 million parameters, and the kernels of 7
            and 9 pixels make it slow: 7.4 million multiplications a pixel.
        dropout: its probability.

    Shape:
        - image: (N, in_channels, H, W) of any size.
        - output: a tuple of the segment head's and the pixel head's logits, each (N, out_channels, H, W).

    Raises:
        ValueError: an argument out of range, or an image of another shape.

    Example:
        >>> model = SegmentNet(out_channels=1, width=1 / 32)
        >>> segment, pixel = model(torch.zeros(2, 3, 20, 31))
        >>> segment.shape, model.logits((segment, pixel)).shape
        (torch.Size([2, 1, 20, 31]), torch.Size([2, 1, 20, 31]))
    """

    stride = 1
    """Images of any size are taken."""

    def __init__(self, in_channels: int = 3, out_channels: int = 2, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1:
                raise ValueError(f"{name}: expected at least 1, got {channels}")
        if not 0 < width < math.inf:
            raise ValueError(f"width: expected a finite number above 0, got {width}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a number from 0 to below 1, got {dropout}")
        self.in_channels = in_channels

        def scaled(channels: int) -> int:
            return max(1, round(channels * width))

        def pair(channels: int, layers: tuple[tuple[int, int], ...]) -> nn.Sequential:
            made = []
            for wide, kernel in layers:
                made += [nn.Conv2d(channels, scaled(wide), kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
                channels = scaled(wide)
            return nn.Sequential(*made)

        encoded = [in_channels, *(scaled(layers[-1][0]) for layers in _ENCODER)]
        self.encoder = nn.ModuleList(
            pair(channels, layers) for channels, layers in zip(encoded, _ENCODER, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        below = [*(scaled(layers[-1][0]) for layers in _DECODER[1:]), encoded[-1]]
        up = [scaled(channels) for channels in _UP]
        self.up = nn.ModuleList(nn.ConvTranspose2d(*channels, 2, stride=2) for channels in zip(below, up, strict=True))
        joined = [fine + coarse for fine, coarse in zip(encoded[1:], up, strict=False)]
        self.decoder = nn.ModuleList(pair(joined[level], _DECODER[level]) for level in range(1, len(_DECODER)))
        last = scaled(_DECODER[0][-1][0])
        self.segment_head = nn.Sequential(*pair(joined[0], _DECODER[0]), nn.Conv2d(last, out_channels, 1))
        self.pixel_head = nn.Sequential(*pair(joined[0], _DECODER[0]), nn.Conv2d(last, out_channels, 1))
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")  # a bound of sqrt(3 / fan_in)
                nn.init.zeros_(layer.get_parameter("bias"))

    @property
    def heads(self) -> list[nn.Module]:
        """The last convolutions of both heads."""
        return [self.segment_head[-1], self.pixel_head[-1]]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the segment head and of the pixel head."""
        if image.dim() != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"image: expected shape (N, {self.in_channels}, H, W), got {tuple(image.shape)}")
        height, width = image.shape[2:]
        multiple = 2 ** (len(_ENCODER) - 1)
        features = F.pad(image, (0, -width % multiple, 0, -height % multiple))
        skipped: list[Tensor] = []
        for level, encoder in enumerate(self.encoder):
            features = encoder(features if level == 0 else F.max_pool2d(features, 2))
            if level >= len(_ENCODER) - 2:
                features = self.dropout(features)
            skipped.append(features)
        for level in range(len(_DECODER) - 1, -1, -1):
            features = torch.cat([F.relu(self.up[level](features)), skipped[level]], dim=1)
            if level > 0:
                features = self.decoder[level - 1](features)
        segment, pixel = self.segment_head(features), self.pixel_head(features)
        return segment[..., :height, :width], pixel[..., :height, :width]

    def logits(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """The mean of both heads' logits, (N, out_channels, H, W).

        Args:
            outputs: what :meth:`forward` returned.
        """
        segment, pixel = outputs
        return (segment + pixel) / 2
