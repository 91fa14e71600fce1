""":func:`rarepixel.functional.unified_focal` and its Module, :class:`rarepixel.UnifiedFocalLoss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..reference.unified_focal_terms import unified_focal_terms, with_smooth
from ..stats import OverlapStats
from ._unified_focal_family import UnifiedFocalFamilyLoss, evaluate

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def unified_focal(
    logits: Tensor,
    target: Tensor,
    *,
    weight: float = 0.5,
    delta: float = 0.6,
    gamma: float = 0.5,
    asymmetric: bool = True,
    smooth: float = 1e-7,
    absent: str | None = None,
    class_weights: Sequence[float] | Tensor | None = None,
    activation: str = "sigmoid",
    background: int = 0,
    soft_labels: bool = False,
    soft_overlap: str = "semimetric",
    label_smoothing: float = 0.0,
    balance: str = "channel",
    reduction: str = "mean",
    mask: Tensor | None = None,
    pixel_weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    process_group: ProcessGroup | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, OverlapStats]:
    r"""Unified Focal loss: a focal Tversky and a focal cross-entropy part with three parameters for both.

    Yeung, Sala, Schönlieb and Rundo, "Unified Focal loss", Computerized Medical Imaging and Graphics 2022.

    .. math::
        L = w \cdot \tfrac12 \sum_{c \in \{0, 1\}} (1 - T_c)^{r_c}
        + \frac{1 - w}{N} \sum_j \delta_{y_j} (1 - p_{y_j})^{g_{y_j}} (-\log p_{y_j})

    .. math::
        T_c = \frac{TP_c}{TP_c + \delta\, FN_c + (1 - \delta)\, FP_c}

    with :math:`\delta_1 = \delta` and :math:`\delta_0 = 1 - \delta`, class 0 being the background. Symmetric:
    :math:`r_c = 1 - \gamma` and :math:`g_c = \gamma`. Asymmetric: the background keeps :math:`r_0 = 1` and the
    foreground :math:`g_1 = 0`, so that the rare class is enhanced in the one part and not suppressed in the other.

    Note:
        Weight and exponents are those of the authors' code. The paper prints the weight, :math:`\lambda`, at the other
        part; of its exponents the author says that the code is right.

    Note:
        With ``gamma=0``, ``delta=0.5`` and symmetric it is the Dice loss of both classes for ``weight=1``, and half the
        cross-entropy for ``weight=0``.

    Note:
        Nothing is clipped: the focal factor is an exponential of the logits, 1 - T is computed from its own numerator,
        and where it is 0 its slope is taken to be 0.

    Note:
        With ``activation="softmax"`` :math:`p_c` is the softmax over the C channels and the region part the mean over
        all C classes; ``background`` takes the place of class 0, and every other class that of class 1.

    Args:
        logits: scores before the activation, shape :math:`(N, C, *)` with 1 to 3 spatial dimensions; float16, bfloat16,
            float32 or float64, any strides. What the channels are, ``activation`` says. An infinite one has the loss
            and the slope that large ones tend to; over a softmax there is no such limit, and the loss is NaN, where
            several of a pixel's logits are +inf or all are -inf.
            Of sigmoids, three dimensions are signals of C channels, and a warning says so where they look like images
            without their channel: C of at least 64, or of the length's size.
        target: labels of the same shape, or without the channel if there is one, 0 or 1 (or ``ignore_index``), bool,
            integer (not uint64) or floating; for a softmax these one-hot, or class indices of shape (N, \*spatial) or
            (N, 1, \*spatial).
        weight: share of the region part, 0 to 1.
        delta: weight of false negatives and of positives, 0 to 1.
        gamma: how strongly easy pixels are suppressed and rare classes enhanced, at least 0; at most 1 if the region
            part counts.
        asymmetric: spare the rare class the suppression and the background the enhancement.
        smooth: :math:`s` of the Tversky index :math:`(TP + s) / (TP + \ldots + s)`, what keeps it from 0 / 0, at least
            0. With 0 a class that a region does not have is found wherever a pixel counts: T is 0.
        absent: what of a class that has no pixels in a region. None: its overlap counts, as published (an index of 0
            as soon as anything is predicted). ``"skip"``: it is left out, and its share of the overlaps goes to the
            other classes; a region in which nothing is left to score is left out of the mean.
        class_weights: what each class weighs, its overlap and its cross-entropies, finite numbers of at least 0 in a
            sequence or a tensor of shape (C,). Over sigmoids they weigh the channels, which have to be regions
            (``balance="channel"`` or ``"class"``). Nothing is divided by their sum. None: 1.
        activation: ``"sigmoid"``: each channel is a problem of two classes; ``"softmax"``: the channels are C classes,
            of which one is true at each pixel, at most 254.
        background: which class of a softmax is the background.
        soft_labels: labels are any numbers from 0 to 1, of a floating dtype and the shape of the logits; those of a
            softmax sum to 1 at each pixel, within 0.01.
        soft_overlap: what TP, FN and FP are of soft labels y, in the region part and the statistics; of labels 0 and 1
            it says nothing and stays at its default. ``"semimetric"``: FN is the sum of max(y - p, 0) and FP that of
            max(p - y, 0), so that an overlap is perfect at p = y and nowhere else: the Dice semimetric of Wang et al.,
            "Dice Semimetric Losses", MICCAI 2023. ``"product"``: the sums of y (1 - p) and (1 - y) p, which are least
            where p is 0 or 1 and so teach a network to overshoot. Cross-entropies are y-weighted sums either way.
        label_smoothing: :math:`\varepsilon` from 0 to 1: labels become :math:`(1 - \varepsilon) y + \varepsilon / C`,
            C being 2 for sigmoids, and are soft labels from there on.
        balance: what a region is, over which everything is counted: ``"channel"``, ``"image"``, ``"batch"`` or
            ``"class"`` (each channel of all images together); for a softmax, whose classes are counted apart, the first
            two are the same, and the last two.
        reduction: ``"mean"``: the mean of the regions' values, of which that of an image whose pixels are all ignored
            is 0 and one of them; ``"sum"``: their sum; ``"none"``: one value a region, of shape (N, C), (N,), () or
            (C,) by ``balance``; (N,) or () for a softmax. ``"pixel"``, for ``weighted_cross_entropy`` and ``focal``
            alone, which are sums over pixels: the cross-entropy of each, times its weights, and 0 where it does not
            count, in the logits' shape, or (N, \*spatial) for a softmax; a region's value is their sum divided by the
            weights of the pixels that count. Computed in plain PyTorch.
        mask: pixels where it is 0 count for nothing; shape (N, 1, \*spatial), (N, \*spatial), (\*spatial) or, not for
            a softmax, (N, C, \*spatial), where N may be 1. bool, uint8, or numbers that are 0 and 1: others are an
            error on the CPU, and count on CUDA, where looking would synchronise, and under ``torch.compile``.
        pixel_weight: how much each pixel weighs, finite numbers of at least 0, floating, shape (N, 1, \*spatial),
            (N, \*spatial), (\*spatial) or, not for a softmax, (N, C, \*spatial), where N may be 1: a pixel of weight 2
            counts as two pixels, one of weight 0 not at all. They are constants to the gradient.
        ignore_index: a label whose pixels count for nothing, or a sequence of such labels.
        process_group: processes of ``torch.distributed`` whose batches are one region; needs ``balance="batch"`` or
            ``"class"``. The
            gradient is that of the sum of their (equal) losses, which DistributedDataParallel's mean makes right. Not
            under ``torch.compile``.
        return_stats: also return :class:`rarepixel.stats.OverlapStats`, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, choice or number; a softmax over one class; a label that is no class and not
            ``ignore_index`` (on CUDA, where looking would synchronise, it makes the loss and its gradient NaN); a
            target, also of soft labels, or another tensor than the logits that requires a gradient or has a tangent.
        RuntimeError: on a second derivative, which is not defined; with a process group in forward mode and under the
            transforms of torch.func.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
        >>> loss = unified_focal(logits, torch.tensor([[[1, 0, 0, 0]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.4317
    """
    terms = unified_focal_terms(weight, delta, gamma, asymmetric)
    region = (logits, target, mask, ignore_index, balance, reduction)
    shared = (activation, background, soft_labels, soft_overlap, process_group, return_stats)
    return evaluate(
        with_smooth(terms, smooth), *region, *shared, *(class_weights, pixel_weight, absent, 1.0, label_smoothing)
    )


class UnifiedFocalLoss(UnifiedFocalFamilyLoss):
    """Module form of :func:`rarepixel.functional.unified_focal`: the same options; ``forward`` takes the mask.

    Example:
        >>> import torch
        >>> criterion = UnifiedFocalLoss()
        >>> logits = torch.randn(2, 1, 16, 16, requires_grad=True)
        >>> target = torch.rand(2, 1, 16, 16) < 0.01
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(unified_focal)
    name_of_weight = "pixel_weight"
    weight: float
    delta: float
    gamma: float
    asymmetric: bool

    def __init__(
        self,
        *,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        asymmetric: bool = True,
        smooth: float = 1e-7,
        absent: str | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
        activation: str = "sigmoid",
        background: int = 0,
        soft_labels: bool = False,
        soft_overlap: str = "semimetric",
        label_smoothing: float = 0.0,
        balance: str = "channel",
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        process_group: ProcessGroup | None = None,
        return_stats: bool = False,
    ) -> None:
        with_smooth(unified_focal_terms(weight, delta, gamma, asymmetric), smooth)
        shared = (activation, soft_labels, soft_overlap, balance, reduction, ignore_index, process_group, return_stats)
        super().__init__(
            *shared,
            smooth=smooth,
            absent=absent,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            background=background,
            weight=weight,
            delta=delta,
            gamma=gamma,
            asymmetric=asymmetric,
        )
