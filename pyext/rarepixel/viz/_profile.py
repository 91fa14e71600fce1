"""What a loss adds for a pixel, and how it pulls at it, by the pixel's logit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import losses as ours
from .._criterion import Criterion
from ._evaluation import CURVES
from ._expected_drop import ExpectedDrop, drop_probability
from ._losses import Losses, criteria, value_of
from ._picture import Picture
from ._population import Population, Values, population_of
from ._profile_figure import draw
from ._profile_formulas import formula_of
from ._profile_numbers import LossProfile, ProfileNumbers
from ._profile_page import page

GRID: Values = np.arange(-96, 97) / 8
"""Logits of the probe, -12 to 12."""

PARTS = ("positives", "false positives", "other negatives")


class Profile(ProfileNumbers, Picture):
    """Losses by a pixel's logit; :func:`rarepixel.viz.profile` makes it."""

    def __repr__(self) -> str:
        return f"Profile({', '.join(self.losses)}; prevalence={self.population.prevalence:g})"

    def figure(self) -> Figure:
        """A figure of its own, which no pyplot knows of."""
        return draw(self)

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        return {"html": self._page}

    def _page(self) -> bytes:
        return page(self).encode()


def profile(
    losses: Losses,
    *,
    prevalence: float | None = 0.01,
    logits: Tensor | None = None,
    target: Tensor | None = None,
    seed: int = 0,
    title: str = "",
) -> Profile:
    r"""Loss and gradient of one pixel against its logit, under several losses.

    The loss of a pixel depends on the others where overlaps are counted, classes balanced or pixels chosen. So the
    pixel, the probe, is one of a population of n pixels with the given prevalence: it takes the place of the median
    pixel of its class, its logit z goes over a grid, and the loss itself is called at each, in float64.

    .. math::
        \text{gradient} = n\, \frac{\partial L}{\partial z}, \qquad
        \text{loss} = n\, (L(z) - L(z_\text{right})), \qquad
        \text{weight} = \frac{n}{p - y}\, \frac{\partial L}{\partial z}

    with z_right the end of the grid at which the probe is right. The mean cross-entropy has the gradient p - y and
    the weight 1, at every logit.

    The drops of :class:`rarepixel.RandomDropLoss` are averaged over, exactly; those of any other loss that draws random
    numbers are the ones of ``seed``.

    Note:
        The loss is what the value changes by, the gradient what backward gives. One is the slope of the other, unless
        the loss keeps something constant to the gradient: which pixels count, and how much.

    Note:
        A loss that looks at the neighbours of a pixel sees a row of pixels, (1, 1, 1, n): negatives, then positives,
        logits rising. What :class:`rarepixel.SegmentThicknessLoss` makes of one pixel's logit, its segment decides: it
        has no profile.

    Args:
        losses: one, several, or several by names of one's own, at most 7: specs such as ``"top_k:k=0.05"``, Modules or
            callables of (logits, target); see :func:`rarepixel.viz.pixels`.
        prevalence: share of positives; None: that of ``target``. Below 6e-5 the 2^20 pixels that are looked at hold
            fewer than 64 positives.
        logits: of a net, of any shape: the distributions of the population's logits; None: those of a half-trained
            net, logistic ones with mean -4 and standard deviation 2 for negatives, 0 and 2.5 for positives.
        target: its labels, of the same shape, 0 and 1.
        seed: of what losses of others draw.
        title: above the picture.

    Returns:
        Curves and numbers; ``.save`` makes PNG, SVG, PDF, or a page with sliders (``.html``).

    Raises:
        TypeError: losses, logits or target of a wrong type.
        ValueError: no losses or more than 7; one of several classes, of segments, or without a gradient; a prevalence
            not between 0 and 1; logits without a target, NaN, or of one class.

    Example:
        >>> from rarepixel import viz
        >>> found = viz.profile(["bce", "dice"], prevalence=0.001)
        >>> for name, loss in found.losses.items():
        ...     print(name, round(loss.shares["positives"], 3))
        bce 0.008
        dice 0.298
    """
    found = criteria(losses)
    if len(found) > len(CURVES):
        raise ValueError(
            f"losses: expected at most {len(CURVES)}, which is how many colours there are, got {len(found)}"
        )
    for name, criterion in found.items():
        _check(name, criterion)
    population = population_of(prevalence, logits, target)
    return Profile(
        GRID, {name: _profiled(name, one, population, seed) for name, one in found.items()}, population, title
    )


def _check(name: str, criterion: Criterion) -> None:
    if criterion.needs_segments:
        raise ValueError(f"losses: expected losses of a pixel's logit, got {name!r}, which looks at whole segments")
    several = (nn.CrossEntropyLoss, nn.NLLLoss)
    if criterion.activation != "sigmoid" or any(
        isinstance(one, several)
        or getattr(one, "activation", "sigmoid") == "softmax"
        or (isinstance(one, ours.MultiChannelBinLoss) and one.background is not None)
        for one in criterion.modules()
    ):
        raise ValueError(f"losses: expected losses of one channel, got {name!r}, which is one of several classes")
    loss = _bare(criterion.loss)
    if isinstance(loss, ours.RandomDropLoss) and loss.reduction != "mean":
        raise ValueError(
            f"losses: expected reduction 'mean' of {name!r}, over whose drops a mean is taken, got {loss.reduction!r}"
        )


def _bare(loss: nn.Module) -> nn.Module:
    """A loss without what changes nothing where there is one output."""
    if isinstance(loss, ours.TwoStage):
        return _bare(loss.second if loss.stage == 2 else loss.first)
    if isinstance(loss, ours.DeepSupervision) and loss.weights in (None, (1.0,)):
        return _bare(loss.loss)
    return loss


def _profiled(name: str, criterion: Criterion, population: Population, seed: int) -> LossProfile:
    loss = _bare(criterion.loss)
    dropped, threshold = None, None
    of_population: Values
    if isinstance(loss, ours.RandomDropLoss):
        expected = ExpectedDrop(str(loss.schedule), population)
        values, gradient = expected.profile(GRID)
        dropped, kept = drop_probability(str(loss.schedule), GRID), expected.kept_share
        of_population = np.concatenate(
            [np.repeat(*one) for one in zip(expected.gradients(), population.counts, strict=True)]
        )
    else:
        with _one_thread():
            values, gradient = _probed(name, criterion, population, seed)
            of_population, counted = _gradient(name, criterion, population, seed)
        negatives = of_population[: population.sizes[0]]
        chosen = negatives != 0
        kept = float(chosen.mean()) if counted is None else counted
        if not chosen.all() and chosen.any():
            threshold = float(np.repeat(population.values[0], population.counts[0])[chosen.argmax()])
        if (gradient[0] == 0).any():
            dropped = (gradient[0] == 0).astype(np.float64)
    return LossProfile(
        loss=values - np.array([[values[0, 0]], [values[1, -1]]]),
        gradient=gradient,
        weight=gradient / bce_gradient(GRID),
        dropped=dropped,
        threshold=threshold,
        kept=kept,
        shares=_shares(of_population, population),
        formula=formula_of(loss),
    )  # fmt: skip


def bce_gradient(logits: Values) -> Values:
    """P - y of negatives and of positives, (2, n)."""
    return np.stack([np.exp(-np.logaddexp(0, -logits)), -np.exp(-np.logaddexp(0, logits))])


def _shares(gradient: Values, population: Population) -> dict[str, float]:
    size = np.abs(gradient)
    negatives = population.sizes[0]
    wrong = np.repeat(population.values[0] >= 0, population.counts[0])
    sums = size[negatives:].sum(), size[:negatives][wrong].sum(), size[:negatives][~wrong].sum()
    total = sum(sums)
    return {part: float(one / total) if total > 0 else float("nan") for part, one in zip(PARTS, sums, strict=True)}


# ---- Through the loss itself ----


def _probed(name: str, criterion: Criterion, population: Population, seed: int) -> tuple[Values, Values]:
    values, gradients = np.empty((2, 2, GRID.size))
    for label in (0, 1):
        logits, target = population.tensors()
        before = population.sizes[0] if label else 0
        place = before + population.sizes[label] // 2
        for number, logit in enumerate(GRID):
            logits[..., place] = float(logit)
            value, gradient = _called(name, criterion, logits, target, seed)
            values[label, number], gradients[label, number] = value.item(), gradient[..., place].item()
    return population.pixels * values, population.pixels * gradients


def _gradient(name: str, criterion: Criterion, population: Population, seed: int) -> tuple[Values, float | None]:
    """Of each pixel of the population, and which share of the negatives the loss says that it kept."""
    _, gradient = _called(name, criterion, *population.tensors(), seed)
    counted = criterion.negatives
    share = None if counted is None else float(counted[0]) / float(counted[1])
    return population.pixels * gradient.flatten().numpy(), share


def _called(name: str, criterion: Criterion, logits: Tensor, target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    x = logits.detach().requires_grad_()
    try:
        value = value_of(criterion, x, target, torch.ones_like(target), seed=seed)
    except (RuntimeError, IndexError, AssertionError) as error:
        raise ValueError(
            f"losses: expected {name!r} to take logits and labels of shape {tuple(x.shape)}, got {error}"
        ) from error
    found = torch.autograd.grad(value, x, allow_unused=True)[0] if value.requires_grad else None
    if found is None:
        raise ValueError(f"losses: expected {name!r} to have a gradient by the logits, got none")
    return value.detach(), found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads would wait for each other longer than they work on so few pixels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
