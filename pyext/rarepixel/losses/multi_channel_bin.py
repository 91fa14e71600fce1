""":func:`rarepixel.functional.multi_channel_bin` and its Module, :class:`rarepixel.MultiChannelBinLoss`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .._options import check_absent
from ..reference.multi_channel_bin import check_arguments, check_options, compute
from ..stats import HardNegativeStats
from ._dispatch import dispatch
from ._documentation import documented_as_in
from ._module import RegionLoss
from .random_drop import random_drop

_evaluate = dispatch(compute)


@documented_as_in(random_drop)
def multi_channel_bin(
    logits: Tensor,
    target: Tensor,
    *,
    key: int = 10,
    caffe: bool = False,
    absent: str | None = None,
    background: int | None = None,
    reduction: str = "mean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    ignore_index: int | Sequence[int] | None = None,
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, HardNegativeStats]:
    r"""Multi-channel bin loss: several kinds of lesions, one sigmoid each, from one map of class indices.

    Guo et al., "L-Seg: An end-to-end unified framework for multi-lesion segmentation of fundus images", Neurocomputing
    2019.

    Channel :math:`c` has the pixels of class :math:`c + 1` for positives and all others for negatives. In each channel
    the negatives fall into five bins of equal width by :math:`p = \sigma(x)`, and whole bins are kept, from the hardest
    down, until at least ``key`` times as many negatives as the channel has positives are kept (a channel without
    positives keeps all). With :math:`N^+` positives and :math:`N^-` kept negatives of all channels of an image,

    .. math::
        w^+ = \frac{N^-}{N^+ + N^-}, \qquad w^- = \frac{N^+}{N^+ + N^-}, \qquad
        L = -w^+ \sum_c \sum_{y = c + 1} \log p_c \; - \; w^- \sum_c \sum_{\text{kept}} \log(1 - p_c)

    Weights and the choice of bins are constants to the gradient.

    Note:
        There is no channel for the background: C channels are C kinds of lesions, with labels 1 to C. A head that has
        one, as a softmax needs it, has labels 0 to C - 1 instead; taken for lesions alone its classes would be learned
        by the wrong channels. ``background`` says which channel it is: that one is left out, its gradient is 0, and
        class :math:`k` has the pixels of class :math:`k` for positives in channel :math:`k`. Labels cannot tell the one
        head from the other, since a batch may lack its last class; but with ``background`` label C, a class without a
        channel, is an error, as label C + 1 is without.

    Note:
        The published layer differs, and ``caffe=True`` reproduces it: only the first image counts; of every channel a
        quarter of the kept negatives, rounded down, enters the weights, whatever the number of channels; where a
        channel keeps all bins but the easiest one, the gradient reaches that one, too, though the loss does not (a
        condition of its backward pass stands twice); labels that are no class, 255 for one, are background instead of
        errors; and the value is the sum. Where it divides 0 by 0 the loss is 0 here.

    Args:
        logits: as in :func:`random_drop`.
        target: class indices, 0 for background and 1 to C, or with ``background`` the numbers of the channels, 0 to
            C - 1 (or ``ignore_index``), shape (N, \*spatial) or (N, 1, \*spatial); bool, integer (not uint64) or
            floating.
        key: how many negatives a positive asks for, at least.
        caffe: compute what the published layer computes; ``reduction`` has to be left alone.
        background: the channel of ``logits`` that stands for the background, and its label, where there is one; not
            with ``caffe=True``.
        reduction: ``"mean"``: per image :math:`L` divided by the sum of its weights, then the mean over images;
            ``"sum"``: the sum of :math:`L`; ``"none"``: the values that ``"mean"`` averages, of shape (N,);
            ``"pixel"``: what each pixel adds to the sum of :math:`L`, in the logits' shape.
        absent, mask, weight: as in :func:`random_drop`.
        ignore_index: a label whose pixels count for nothing in any channel, or a sequence of such labels.
        return_stats: also return :class:`rarepixel.stats.HardNegativeStats` of shape (N, C), without the background's
            channel, without a synchronisation.

    Returns:
        The loss, float64 for float64 logits and float32 otherwise; with ``return_stats`` a pair of it and the stats.

    Raises:
        TypeError: as in :func:`random_drop`.
        ValueError: a wrong shape, device or choice; a label that is no class and not ``ignore_index`` (on CUDA, where
            looking would synchronise, such a label makes the image's loss and gradient NaN instead); a target that
            requires a gradient or has a tangent.
        RuntimeError: as in :func:`random_drop`.

    Example:
        >>> import torch
        >>> logits = torch.randn(1, 2, 8, 8, requires_grad=True)
        >>> target = torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> target[0, 3, 4], target[0, 5, 5] = 1, 2
        >>> loss, stats = multi_channel_bin(logits, target, return_stats=True)
        >>> loss.backward()
        >>> stats.positives.tolist()
        [[1, 1]]
    """
    arguments = check_arguments(logits, target, key, caffe, background, reduction, mask, ignore_index, weight, absent)
    return _evaluate(arguments, return_stats)


class MultiChannelBinLoss(RegionLoss):
    """Module form of :func:`rarepixel.functional.multi_channel_bin`: the same options; ``forward`` takes the mask.

    Example:
        >>> import torch
        >>> criterion = MultiChannelBinLoss(key=10)
        >>> logits = torch.randn(2, 4, 16, 16, requires_grad=True)
        >>> target = torch.randint(0, 5, (2, 16, 16))
        >>> criterion(logits, target).backward()
    """

    function = staticmethod(multi_channel_bin)
    has_balance = False

    def __init__(
        self,
        key: int = 10,
        caffe: bool = False,
        *,
        absent: str | None = None,
        background: int | None = None,
        reduction: str = "mean",
        ignore_index: int | Sequence[int] | None = None,
        return_stats: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index, return_stats=return_stats)
        self.keep(key=key, caffe=caffe, background=background, absent=absent)
        check_absent(absent)
        check_options(key, caffe, background, reduction)
