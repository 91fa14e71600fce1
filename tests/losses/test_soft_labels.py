"""The Unified Focal family of soft labels: where its overlaps are least, infinite logits, digits, and the option."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rarepixel import functional
from rarepixel.reference.unified_focal import SOFT_OVERLAPS
from tests.losses.contract import both_sides
from tests.losses.family import (
    FAMILY,
    SOFTMAX,
    SOFTMAX_FAMILY,
    by_member,
    by_softmax_member,
    for_member,
    value_and_gradient,
)
from tests.samples import soft

by_form = pytest.mark.parametrize("form", SOFT_OVERLAPS)

# Losses of overlaps alone.
OVERLAPS: list[tuple[str, dict[str, Any]]] = [
    *((name, options) for name, _, options in SOFTMAX_FAMILY if name in ("dice", "generalized_dice", "tversky")),
    ("focal_tversky", {"gamma": 0.8, "include_background": True}),
    ("combo", {"alpha": 0.0}),
    ("hybrid_focal", {"weight": 0.0, "tversky_gamma": 0.9}),
    ("unified_focal", {"weight": 1.0, "gamma": 0.0}),
]
by_overlap = pytest.mark.parametrize(("name", "options"), OVERLAPS, ids=lambda value: str(value)[:60])


# ---- Where overlaps are least ---------------------------------------------------------------------------------------


@both_sides
def test_dice_of_one_pixel_is_least_at_its_label(side: Any, device: torch.device) -> None:
    label = torch.full((1, 1, 1), 0.5, dtype=torch.float64, device=device)
    for p in (0.5, 0.25, 0.75, 0.999):
        x = torch.full_like(label, math.log(p / (1 - p)))
        semimetric, slope = value_and_gradient(side.dice, x, label, soft_labels=True)
        assert semimetric.item() == pytest.approx(1 - 2 * min(p, 0.5) / (p + 0.5), rel=1e-6, abs=1e-16)
        sign = (p > 0.5) - (p < 0.5)
        assert slope.sign().item() == sign
        product, slope = value_and_gradient(side.dice, x, label, soft_labels=True, soft_overlap="product")
        assert product.item() == pytest.approx(1 - p / (p + 0.5), rel=1e-6)
        assert slope.item() < 0  # though p may be above the label


@both_sides
@by_overlap
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_overlaps_are_perfect_at_the_labels_alone(
    side: Any, name: str, options: dict[str, Any], activation: str, device: torch.device
) -> None:
    logits, _ = (t.to(device) for t in soft.of_softmax((1, 3, 4, 5))(torch.float64))
    labels = logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=1)
    how = {"soft_labels": True, "activation": activation, "reduction": "sum", **options}
    least, slope = value_and_gradient(getattr(side, name), logits, labels, **how)
    assert 0 <= least.item() < 1e-13  # of p that is rounded
    for step in (1e-3, -1e-3, 1.0, -1.0):
        moved = logits.clone()
        moved[0, 1, 2] += step
        loss, slope = value_and_gradient(getattr(side, name), moved, labels, **how)
        assert loss > 2 * least + 1e-9
        assert (step * slope[0, 1, 2] > 0).all()  # downhill is back


@both_sides
def test_statistics_are_of_the_form(side: Any, device: torch.device) -> None:
    p = torch.tensor([0.75, 0.5, 0.125, 0.5], dtype=torch.float64, device=device).view(1, 1, 4)
    y = torch.tensor([0.5, 0.75, 0.0, 0.5], dtype=torch.float64, device=device).view(1, 1, 4)
    expected = {
        "semimetric": ((p.minimum(y)).sum(), (y - p).relu().sum(), (p - y).relu().sum()),
        "product": ((p * y).sum(), (y * (1 - p)).sum(), (p * (1 - y)).sum()),
    }
    for activation in ("sigmoid", "softmax"):
        for form, (tp, fn, fp) in expected.items():
            x, labels = p.logit(), y
            if activation == "softmax":
                x, labels = torch.cat([-x, x], dim=1) / 2, torch.cat([1 - y, y], dim=1)
            how = {"soft_labels": True, "soft_overlap": form, "activation": activation}
            loss, stats = side.tversky(x, labels, return_stats=True, **how)
            found = torch.stack(stats[:5])[:, 0, -1].tolist()
            assert found == pytest.approx([y.sum().item(), (1 - y).sum().item(), tp.item(), fn.item(), fp.item()])
            assert loss.item() == pytest.approx((1 - tp / (tp + 0.7 * fn + 0.3 * fp)).item(), rel=1e-6)


@both_sides
def test_small_differences_keep_their_digits(side: Any, device: torch.device) -> None:
    x = torch.tensor([8.0, 12.0, 7.0, -8.0], device=device).view(1, 1, 4)
    y = torch.tensor([1 - 2**-10, 1.0, 1.0, 2**-10], device=device).view(1, 1, 4)
    both = {"sigmoid": (x, y), "softmax": (torch.cat([-x, x], dim=1) / 2, torch.cat([1 - y, y], dim=1))}
    for activation, (logits, labels) in both.items():
        how = {"soft_labels": True, "activation": activation}
        found, slope = value_and_gradient(side.dice, logits, labels, **how)
        expected, of_expected = value_and_gradient(side.dice, logits.double(), labels.double(), **how)
        torch.testing.assert_close(found.double(), expected, rtol=3e-6, atol=0)
        torch.testing.assert_close(slope.double(), of_expected, rtol=3e-6, atol=0)


# ---- Infinite logits ------------------------------------------------------------------------------------------------

INF = math.inf
# Logits and labels of a pixel beside one of finite logits.
OF_SIGMOID = [([INF], [1.0]), ([INF], [0.0]), ([-INF], [0.0]), ([-INF], [1.0]), ([INF], [0.5]), ([-INF], [0.3])]
OF_SOFTMAX = [
    ([-INF, 0.0, 1.0], [0.0, 0.3, 0.7]),
    ([-INF, 0.0, 1.0], [0.2, 0.3, 0.5]),
    ([-INF, 0.0, 1.0], [1.0, 0.0, 0.0]),
    ([-INF, -INF, 1.0], [0.0, 0.0, 1.0]),
    ([-INF, -INF, 1.0], [0.1, 0.2, 0.7]),
    ([INF, 0.0, 1.0], [1.0, 0.0, 0.0]),
    ([INF, 0.0, -INF], [0.5, 0.5, 0.0]),
]
CROSS_ENTROPIES = {"weighted_cross_entropy", "focal", "combo", "hybrid_focal", "unified_focal"}


def two_pixels(first: list[float], second: list[float], device: torch.device) -> Tensor:
    return torch.tensor([first, second], dtype=torch.float64, device=device).T.reshape(1, -1, 2)


def check_limits(side: Any, name: str, options: dict[str, Any], device: torch.device, softmax: bool) -> None:
    """An infinite logit gives the loss and the slope that large ones tend to."""
    beside = ([0.3, -0.2, 0.5], [0.1, 0.2, 0.7]) if softmax else ([0.3], [0.8])
    for its_logits, its_labels in OF_SOFTMAX if softmax else OF_SIGMOID:
        logits = two_pixels(its_logits, beside[0], device)
        labels = two_pixels(its_labels, beside[1], device)
        how = {"soft_labels": True, **options, **(SOFTMAX if softmax else {})}
        for dtype in (torch.float64, torch.float16):
            x, y = logits.to(dtype), labels.to(dtype)
            large = torch.where(x.isinf(), 1e5 * x.sign().double(), x.double())
            limit, of_limit = value_and_gradient(getattr(functional, name), large, y.double(), **how)
            loss, slope = value_and_gradient(getattr(side, name), x, y, **how)
            # Probabilities of classes with a share that are 0 are infinitely wrong.
            assert (loss == INF) == (limit > 100)
            assert limit < 100 or name in CROSS_ENTROPIES
            if limit < 100:
                assert loss.item() == pytest.approx(limit.item(), rel=3e-5)
            torch.testing.assert_close(slope.double(), of_limit, rtol=3e-3, atol=2e-4)


@both_sides
@by_member
@by_form
def test_infinite_logits_are_the_limit_of_large_ones(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    form: str,
    device: torch.device,
) -> None:
    check_limits(side, name, {**options, "soft_overlap": form}, device, softmax=False)


@both_sides
@by_softmax_member
@by_form
def test_infinite_logits_of_a_softmax_are_the_limit_of_large_ones(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    form: str,
    device: torch.device,
) -> None:
    check_limits(side, name, {**options, "soft_overlap": form}, device, softmax=True)


def test_classes_of_equal_logits_share_alike(device: torch.device) -> None:
    for top in (0.0, 1e4, INF):
        x = torch.tensor([top, top, 1.0 if top == 0 else -top], dtype=torch.float64, device=device).view(1, 3, 1)
        y = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64, device=device).view(1, 3, 1)
        loss, slope = value_and_gradient(functional.weighted_cross_entropy, x, y, soft_labels=True, **SOFTMAX)
        expected = math.log(2) if top else math.log(2 + math.e)
        assert loss.item() == pytest.approx(expected, rel=1e-14)
        assert slope[0, 0].item() == slope[0, 1].item()


# ---- The option -----------------------------------------------------------------------------------------------------


@by_member
def test_the_form_of_overlaps_is_an_option(name: str, module: Any, options: dict[str, Any]) -> None:
    logits, labels = soft.of_sigmoids((2, 2, 5, 7))(torch.float32)
    losses = [
        getattr(functional, name)(logits, labels, soft_labels=True, soft_overlap=form, **options)
        for form in SOFT_OVERLAPS
    ]
    assert torch.equal(getattr(functional, name)(logits, labels, soft_labels=True, **options), losses[0])
    assert torch.equal(*losses) == (name in ("weighted_cross_entropy", "focal"))
    criterion = module(soft_labels=True, soft_overlap="product", **options)
    assert torch.equal(criterion(logits, labels), losses[1])
    assert "soft_overlap='product'" in repr(criterion)


@both_sides
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"soft_labels": True, "soft_overlap": "min"}, "soft_overlap: expected one of 'semimetric', 'product', got 'm"),
        ({"soft_overlap": "min"}, "soft_overlap: expected one of 'semimetric', 'product', got 'min'"),
        (
            {"soft_overlap": "product"},
            "soft_overlap: expected 'semimetric', its default, without soft_labels=True, got 'product'",
        ),
    ],
)
def test_errors(side: Any, options: dict[str, Any], text: str) -> None:
    x = torch.zeros(1, 2, 4, 4)
    for name, module, own in FAMILY:
        for activation in ("sigmoid", "softmax"):
            with pytest.raises(ValueError, match=text):
                getattr(side, name)(x, x, activation=activation, **for_member(name, {**own, **options}))
        with pytest.raises(ValueError, match=text):
            module(**own, **options)
