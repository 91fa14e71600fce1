""":func:`rarepixel.functional.random_drop` and its Module, :class:`rarepixel.RandomDropLoss`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._options import check_absent
from .._validation import check_choice
from ..reference.one_versus_rest import check_activation
from ..reference.random_drop import SCHEDULES, check_arguments, compute
from ..stats import ClassBalancedStats
from ._dispatch import dispatch
from ._module import RegionLoss

_evaluate = dispatch(compute)


def random_drop(
    logits: Tensor,
    target: Tensor,
    *,
    schedule: str = "log",
    absent: str | None = None,
    activation: str = "sigmoid",
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    uniform: Tensor | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ClassBalancedStats]:
    r"""Sigmoid random-drop cross-entropy, for foregrounds of a thousandth of the pixels.

    Guo et al., "Random Drop Loss for Tiny Object Segmentation: Application to Lesion Segmentation in Fundus Images",
    ICANN 2019.

    With :math:`p = \sigma(x)`, each negative (label 0) of a region is dropped with probability :math:`d(p)`, the easier
    the likelier:

    .. math::
        d_\text{linear} = 1 - p, \qquad d_\text{square} = (1 - p)^2, \qquad
        d_\text{log} = \max(0,\, 1 + \log_{10}(1 - p))

    With :math:`N^+` positives and :math:`N^-` kept negatives the weights are
    :math:`w^+ = N^- / (N^+ + N^-)`, :math:`w^- = N^+ / (N^+ + N^-)`, and

    .. math::
        L = -w^+ \sum_{y = 1} \log p \; - \; w^- \sum_{\text{kept}} \log(1 - p)

    Weights and drops are constants to the gradient: :math:`w^+ (p - 1)` on positives, :math:`w^- p` on kept negatives,
    0 on dropped ones. Everything is computed from the logits in log space: loss and gradient are finite for every
    logit that leaves the sums finite (float32: up to about 1e34).

    Note:
        A region without positives, one whose negatives are all dropped and one without pixels have loss 0 and gradient
        0: there is nothing to balance. A NaN logit on a pixel that counts makes the loss NaN.
        ``reduction="sum"`` is the value of the original Caffe layer.

    Note:
        Pixel ``i`` in contiguous (N, C, \*spatial) order gets word ``i mod 4`` of Philox4x32-10's counter
        ``floor(i / 4)`` under the call's seed, so the same seed drops the same pixels on CPU and GPU, for any number of
        threads and any memory layout. ``torch.manual_seed`` makes a training run repeatable. Under ``torch.vmap``
        ``randomness="different"`` draws a seed for each sample.

    Args:
        logits: scores before the sigmoid, never probabilities, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions;
            float16, bfloat16, float32 or float64, any strides. An infinite one has the loss and the slope that large
            ones tend to. Three dimensions are signals of C channels, and a warning says so where they look like images
            without their channel: C of at least 64, or of the length's size.
        target: labels of the same shape, or without the channel if there is one, 0 or 1 (or ``ignore_index``); bool,
            integer (not uint64) or floating.
        schedule: ``"log"`` (the original layer's default), ``"linear"`` or ``"square"``: how :math:`d` falls with p.
        absent: what of regions without positives. None: their loss is 0, as published, and so false alarms there, in
            patches without lesions, go unpunished. ``"count"``: their kept negatives weigh 1, :math:`w^- = 1`, which
            for ``reduction="mean"`` is the mean cross-entropy of those. ``"skip"``: they are left out of the mean.
        activation: ``"sigmoid"``: each channel is a problem of two classes; ``"softmax"``: the channels are 2 to 254
            classes of which one is true at each pixel, and each is a problem of its own, class against rest:
            :math:`p_k` is the softmax, and in the place of a logit stands the log-odds :math:`\log (p_k / (1 - p_k))
            = x_k - \log \sum_{j \ne k} e^{x_j}`, exact for every gap between classes. ``target`` is then a map of class
            indices, of shape (N, \*spatial) or (N, 1, \*spatial), or one-hot labels of the logits' shape; ``mask`` and
            ``weight`` have shape (N, 1, \*spatial), (N, \*spatial) or (\*spatial). Every class of an image is a region
            of ``balance="channel"``, the background's too: ``reduction="none"`` lets one leave it out. Each logit takes
            9 bytes more, 17 in float64: for the log-odds, their gradient and a label.
        balance: over what a region reaches: ``"channel"`` (each image and channel by itself), ``"image"`` (the channels
            of an image together), ``"batch"`` (everything together) or ``"class"`` (each channel of all images
            together).
        reduction: ``"mean"``: per region :math:`L` divided by the sum of its weights, then the mean over regions, of
            which those that are worth 0 (ignored altogether, or without positives) are some; ``"sum"``: the sum of
            :math:`L`; ``"none"``: the values that ``"mean"`` averages, of shape (N, C), (N,), () or (C,) by
            ``balance``; ``"pixel"``: what each pixel adds to the sum of :math:`L`, in the logits' shape, computed in
            plain PyTorch.
        mask: pixels where it is 0 count for nothing; shape (N, 1, \*spatial), (N, C, \*spatial), (N, \*spatial) or
            (\*spatial), where N may be 1. bool, uint8, or numbers that are 0 and 1: others are an error on the CPU,
            and count on CUDA, where looking would synchronise, and under ``torch.compile``. A fundus camera's field
            of view is the usual case.
        weight: how much each pixel weighs, finite numbers of at least 0, floating, shape (N, 1, \*spatial),
            (N, \*spatial), (\*spatial) or, not for a softmax, (N, C, \*spatial), where N may be 1: a pixel of weight 2
            counts as two pixels, in losses and class weights alike, one of weight 0 not at all. They are constants to
            the gradient.
        ignore_index: a label whose pixels count for nothing, or a sequence of such labels.
        generator: draws the seed instead of torch's default generator (not under ``torch.compile``).
        seed: an int or an int64 tensor of one element that makes the call repeatable.
        uniform: float32 or float64 numbers in [0, 1) of the logits' shape, used instead of random ones.
        return_stats: also return the :class:`rarepixel.stats.ClassBalancedStats` of all regions, without a
            synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, choice or number; a label that is neither 0, 1 nor ``ignore_index``, with the
            label and how many pixels have such. On CUDA, where looking would synchronise, it makes the loss and its
            gradient NaN instead. Also a target or another tensor than the logits that requires a gradient or has a
            tangent: pass it detached.
        RuntimeError: on a second derivative, which is not defined.

    Example:
        >>> logits = torch.tensor([[[2.0, -3.0, -1.0, 0.5]]], requires_grad=True)
        >>> target = torch.tensor([[[1, 0, 0, 0]]])
        >>> loss, stats = random_drop(logits, target, seed=1, return_stats=True)
        >>> loss.backward()
        >>> stats.positives.item(), stats.kept_negatives.item()
        (1, 1)
    """
    arguments = check_arguments(
        logits,
        target,
        schedule,
        balance,
        reduction,
        mask,
        ignore_index,
        generator,
        seed,
        uniform,
        weight,
        absent,
        activation,
    )
    return _evaluate(arguments, return_stats)


class RandomDropLoss(RegionLoss):
    """Module form of :func:`rarepixel.functional.random_drop`: the same options; ``forward`` takes the tensors.

    Example:
        >>> criterion = RandomDropLoss(schedule="log")
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    def __init__(
        self,
        schedule: str = "log",
        *,
        absent: str | None = None,
        activation: str = "sigmoid",
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        return_stats: bool = False,
    ) -> None:
        check_absent(absent)
        check_choice("schedule", schedule, SCHEDULES)
        check_activation(activation)
        super().__init__(balance=balance, reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)
        self.keep(schedule=schedule, absent=absent, activation=activation)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        seed: int | Tensor | None = None,
        uniform: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ClassBalancedStats]:
        drawn = {"generator": generator, "seed": seed, "uniform": uniform}
        return random_drop(logits, target, mask=mask, weight=weight, **drawn, **self.options())  # type: ignore[arg-type]
