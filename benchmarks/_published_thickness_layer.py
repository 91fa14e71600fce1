"""How long the loss takes as it was published: a Python layer for Caffe (Yan, Yang and Cheng, IEEE TBME 2018).

Written anew from what the layer does, step by step, in NumPy: two scores a pixel, thinning by convolution and a table,
and a loop over the segments that compares the whole image with the number of each. Backward has other weights of pixels
than forward. The layer takes one image and knows pixels without a label; here are batches, image by image, and 0 and 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

Array = NDArray[Any]

FORWARD_WEIGHTS = (0.1, 0.1, 0.9)  # of background, of background in the range of a segment, of vessel
BACKWARD_WEIGHTS = (0.2, 0.35, 0.8)
MIN_COVERAGE = 0.8
# Bit i of a neighbourhood's number is the neighbour at ORDER[i]: east first, then against the clock.
ORDER = ((1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2))


def published_layer(logits: Tensor, target: Tensor, ids: Tensor) -> Tensor:
    """The layer's value, the mean over the images, and its gradient.

    Args:
        logits: shape (N, 1, H, W), on the CPU; the layer's two scores are 0 and they.
        target: 0 and 1, the same shape.
        ids: of :class:`rarepixel.segments.SegmentMap`, shape (N, H, W).

    Raises:
        NotImplementedError: on a GPU.
    """
    if logits.device.type != "cpu":
        raise NotImplementedError("the published layer has no kernels for a GPU")
    loss: Tensor = _Layer.apply(logits, target, ids)  # type: ignore[no-untyped-call]
    return loss


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ids: Tensor) -> Tensor:
        scores = torch.cat([torch.zeros_like(logits), logits], dim=1).numpy()
        ctx.images = [_Image(*arrays) for arrays in zip(scores, target[:, 0].numpy(), ids.float().numpy(), strict=True)]
        return logits.new_tensor(np.mean([image.forward() for image in ctx.images]))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        gradients = torch.from_numpy(np.stack([image.backward() for image in ctx.images]))
        return upstream * gradients[:, 1:] / len(ctx.images), None, None


class _Image:
    """One image's scores [2, H, W], labels [H, W] and ids [H, W]."""

    def __init__(self, scores: Array, labels: Array, ids: Array) -> None:
        self.scores, self.labels, self.ids = scores, labels, ids

    def forward(self) -> float:
        exponentials = np.exp(self.scores - self.scores.max(axis=0))
        self.probabilities = exponentials / exponentials.sum(axis=0)
        vessel = self.probabilities[1] >= 0.5
        self.segment_weights = 2 - similarity(self.labels, vessel, thin(vessel), self.ids)
        of_label = np.where(self.labels > 0, self.probabilities[1], self.probabilities[0])
        losses = -np.log(np.maximum(of_label, np.finfo(np.float32).tiny))
        return float((self._pixel_weights(FORWARD_WEIGHTS) * self.segment_weights * losses).sum() / self.labels.size)

    def backward(self) -> Array:
        one_hot = np.stack([self.labels == 0, self.labels > 0])
        weights = self._pixel_weights(BACKWARD_WEIGHTS) * self.segment_weights
        gradient: Array = weights * (self.probabilities - one_hot) / self.labels.size
        return gradient.astype(self.scores.dtype)

    def _pixel_weights(self, weights: tuple[float, float, float]) -> Array:
        background, near, vessel = weights
        return np.where(self.labels > 0, vessel, np.where(self.ids != 0, near, background))


def similarity(labels: Array, vessel: Array, skeleton: Array, ids: Array) -> Array:
    """How like the annotation's thickness that of the prediction is, pixel by pixel: 1 is alike."""
    found = np.ones(labels.shape)
    found[vessel & (ids == 0) & (labels != 1)] = 0
    for number in range(1, int(ids.max()) + 1):
        annotated_length = np.count_nonzero(ids == -number)
        if annotated_length == 0:
            continue
        segment = np.abs(ids) == number
        annotated = labels[segment].sum() / annotated_length
        predicted_length = np.count_nonzero(skeleton[segment])
        covered = predicted_length > MIN_COVERAGE * annotated_length
        predicted = np.count_nonzero(vessel[segment]) / predicted_length if covered else 0
        found[segment] = 1 - abs(predicted - annotated) / annotated if annotated > 0 else 0
    return found


def thin(image: Array) -> Array:
    """Guo-Hall thinning: a convolution numbers each pixel's neighbourhood, a table says which may go."""
    bits = np.zeros((3, 3), np.uint8)
    for bit, place in enumerate(ORDER):
        bits[place] = 1 << bit
    left = image.astype(np.uint8)
    while True:
        before = left.sum()
        for table in STAYS:
            left = left & table[ndimage.correlate(left, bits, mode="constant")]
        if left.sum() == before:
            return left > 0


def _stays(second: bool) -> Array:
    """For each of the 256 neighbourhoods, 1 if the pixel stays in the first or the second of two alternating steps."""
    numbers = np.arange(256)
    x = [(numbers >> bit % 8 & 1).astype(bool) for bit in range(9)]  # the ninth is the first again
    runs = sum((~x[i] & (x[i + 1] | x[i + 2])).astype(int) for i in (0, 2, 4, 6))
    pairs = sum((x[i] | x[i + 1]).astype(int) for i in (0, 2, 4, 6))
    other_pairs = sum((x[i + 1] | x[i + 2]).astype(int) for i in (0, 2, 4, 6))
    fewer = np.minimum(pairs, other_pairs)
    kept_side = (x[5] | x[6] | ~x[3]) & x[4] if second else (x[1] | x[2] | ~x[7]) & x[0]
    goes = (runs == 1) & (fewer >= 2) & (fewer <= 3) & ~kept_side
    stays: Array = (~goes).astype(np.uint8)
    return stays


STAYS = (_stays(False), _stays(True))
