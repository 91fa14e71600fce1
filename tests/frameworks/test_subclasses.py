"""Tensors of other packages, which are subclasses: MONAI's with their metadata, torchvision's masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import components, functional, segments
from rarepixel._memory import count_memory
from tests.losses.contract import CPU, LossContract, native
from tests.losses.family import FAMILY, by_member
from tests.losses.test_options import by_loss, name_of_weight

Kind = Callable[[Any], Any]


def meta_tensor(value: Any) -> Any:
    data = pytest.importorskip("monai.data")
    return data.MetaTensor(value, meta={"filename_or_obj": "eye.png"}) if isinstance(value, Tensor) else value


def mask_of_torchvision(value: Any) -> Any:
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    return tv_tensors.Mask(value) if isinstance(value, Tensor) else value


by_kind = pytest.mark.parametrize("kind", [meta_tensor, mask_of_torchvision], ids=["MetaTensor", "Mask"])


def of_kind(kind: Kind, value: Any) -> Any:
    """Tensors of a kind, in whatever they lie."""
    if isinstance(value, segments.SegmentMap):
        return value._map(kind)
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        return type(value)(map(kind, value))
    return kind(value)


def are_plain(value: Any) -> bool:
    if isinstance(value, segments.SegmentMap):
        return all(type(one) is Tensor for one in vars(value).values())
    if isinstance(value, dict):
        return all(map(are_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(are_plain, value))
    return not isinstance(value, Tensor) or type(value) is Tensor


def gradient_of(loss: Tensor, logits: Tensor) -> Tensor:
    """What backward leaves at the logits."""
    loss.sum().backward()
    assert logits.grad is not None
    return logits.grad.as_subclass(Tensor)


@by_kind
@by_loss
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_losses(loss: LossContract, kind: Kind, reduction: str) -> None:
    logits, target, options = loss.small((2, 9, 11), torch.float32, CPU)
    options |= {"mask": torch.rand(2, 1, 9, 11) < 0.7, name_of_weight(loss): torch.rand(2, 1, 9, 11)}
    function = loss.function(functional)
    mine, plain = kind(logits.clone()).requires_grad_(), logits.clone().requires_grad_()
    expected, stats = function(plain, target, reduction=reduction, return_stats=True, **options)
    given = {name: of_kind(kind, value) for name, value in options.items()}
    value, of_mine = function(mine, kind(target), reduction=reduction, return_stats=True, **given)
    assert type(value) is Tensor
    assert are_plain(of_mine)
    assert torch.equal(value, expected)
    assert all(map(torch.equal, of_mine, stats))
    assert torch.equal(gradient_of(value, mine), gradient_of(expected, plain))
    criterion = loss.make()
    more = {name: value for name, value in given.items() if name in ("mask", "segments")}
    again = criterion(mine, kind(target), **more)
    assert type(again) is Tensor


@by_kind
@by_member
def test_the_family(name: str, module: type[torch.nn.Module], options: dict[str, Any], kind: Kind) -> None:
    logits, target = torch.randn(2, 3, 9, 11), torch.rand(2, 3, 9, 11) < 0.3
    mask = torch.rand(2, 1, 9, 11) < 0.7
    function = getattr(functional, name)
    expected = function(logits, target, mask=mask, **options)
    for value in (
        function(kind(logits), kind(target), mask=kind(mask), **options),
        module(**options)(kind(logits), kind(target), kind(mask)),
    ):
        assert type(value) is Tensor
        assert torch.equal(value, expected)


@native
@by_kind
@by_loss
def test_losses_take_them_without_a_copy(loss: LossContract, kind: Kind) -> None:
    logits, target, options = loss.small((2, 128, 96), torch.float32, CPU)
    options |= {"mask": torch.rand(2, 1, 128, 96) < 0.7, name_of_weight(loss): torch.rand(2, 1, 128, 96)}
    function = loss.function(functional)

    def held(of: Kind) -> list[Any]:
        x = of(logits.clone()).requires_grad_()
        y, given = of(target), {name: of_kind(of, value) for name, value in options.items()}
        value, forward = count_memory(lambda: function(x, y, **given), CPU)
        _, backward = count_memory(value.backward, CPU)
        return [*forward, *backward]

    held(lambda value: value)  # what is made once
    assert held(kind) == pytest.approx(held(lambda value: value), abs=2048)


@native
@by_kind
def test_a_family_of_one_pass_holds_the_gradient_alone(kind: Kind) -> None:
    logits, target = torch.randn(2, 1, 256, 256), torch.rand(2, 1, 256, 256) < 0.1
    mask = torch.ones(256, 256, dtype=torch.bool)
    for name in {name for name, *_ in FAMILY} | {"squared_error"}:
        x = kind(logits.clone()).requires_grad_()
        arguments = (x, kind(target)), {"mask": kind(mask)}
        function = getattr(functional, name)
        value, forward = count_memory(lambda f=function, a=arguments: f(*a[0], **a[1]), CPU)
        _, backward = count_memory(value.backward, CPU)
        assert forward.most < 2**14, name
        assert backward.most < logits.nbytes + 2**14, name


@by_kind
def test_losses_of_losses(kind: Kind) -> None:
    logits, target = torch.randn(2, 1, 16, 24), torch.zeros(2, 1, 16, 24)
    target[..., 6:9, 2:22] = 1
    mask = torch.rand(2, 1, 16, 24) < 0.9
    smaller = torch.randn(2, 1, 8, 12)
    found = segments.segment_map(target)
    joint = rarepixel.JointLoss(rarepixel.SegmentThicknessLoss(), rarepixel.RandomDropLoss())
    two = rarepixel.TwoStage(rarepixel.TopKLoss(0.3), rarepixel.SquaredErrorLoss(), switch_at=1)
    supervised = [
        rarepixel.DeepSupervision(rarepixel.DiceLoss(soft_labels=resize == "area"), resize=resize)
        for resize in ("outputs", "any", "nearest", "area")
    ]
    both = [logits, smaller]
    cases = [
        (two, (logits, target, mask)),
        (joint, (logits, target, found.ids, mask)),
        (joint, (logits, target, found)),
        *((criterion, (both, target, mask)) for criterion in supervised),
        *((criterion, (both, [target, target[..., ::2, ::2]])) for criterion in supervised),
    ]
    for criterion, arguments in cases:
        torch.manual_seed(0)
        expected = criterion(*arguments)
        torch.manual_seed(0)
        value = criterion(*(of_kind(kind, argument) for argument in arguments))
        assert type(value) is Tensor, criterion
        assert torch.equal(value, expected)


@by_kind
def test_over_a_softmax(kind: Kind) -> None:
    logits, target = torch.randn(2, 4, 16, 24), torch.randint(0, 4, (2, 1, 16, 24))
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    smaller = torch.randn(2, 4, 8, 12)
    for criterion in (
        rarepixel.TopKLoss(0.3, activation="softmax"),
        rarepixel.UnifiedFocalLoss(activation="softmax", class_weights=kind(weights)),
        rarepixel.MultiChannelBinLoss(background=0),
    ):
        value = criterion(kind(logits), kind(target))
        assert type(value) is Tensor
        assert torch.equal(value, criterion(logits, target))
        deep = rarepixel.DeepSupervision(criterion, resize="any")
        value = deep([kind(logits), kind(smaller)], kind(target))
        assert type(value) is Tensor
        assert torch.equal(value, deep([logits, smaller], target))


@by_kind
def test_segments_and_components(kind: Kind, tmp_path: Path) -> None:
    vessels, view = torch.zeros(2, 1, 24, 32), torch.ones(24, 32, dtype=torch.bool)
    vessels[:, :, 10:14, 3:29] = vessels[1, 0, 2:23, 15:17] = 1
    view[:, 20:] = False
    found = segments.segment_map(kind(vessels), mask=kind(view))
    assert are_plain(found)
    assert found == segments.segment_map(vessels, mask=view)
    cached = segments.CachedSegmentMaps(tmp_path)
    assert cached(kind(vessels), kind(view)) == found
    assert cached.path(kind(vessels), kind(view)) == cached.path(vessels, view)
    skeleton = segments.thin(vessels)
    for function, arguments in (
        (segments.thin, (vessels,)),
        (segments.thickness, (vessels,)),
        (segments.thickness, (vessels, skeleton)),
        (components.label, (vessels,)),
        (components.label, (vessels.int(),)),
        (components.label, (vessels[0, 0].bool(),)),
    ):
        result, expected = function(*map(kind, arguments)), function(*arguments)  # type: ignore[operator]
        assert are_plain(result), function
        assert all(map(torch.equal, result, expected))


@by_kind
def test_metrics(kind: Kind) -> None:
    metrics: Any = pytest.importorskip("rarepixel.metrics")
    target = torch.zeros(2, 1, 24, 32)
    target[:, :, 10:14, 3:29] = target[1, 0, 2:8, 15:17] = 1
    scores = 0.6 * torch.rand(2, 1, 24, 32) + 0.4 * target
    predicted = (scores > 0.5).float()
    mask = torch.ones(2, 1, 24, 32, dtype=torch.bool)
    mask[..., 30:] = False
    for metric in (
        metrics.PixelCurve(),
        metrics.PixelCurve(per_image=True),
        metrics.Reliability(logits=False),
        metrics.LesionCurve(),
        metrics.LesionScores(0.5),
    ):
        of_plain = metric.clone()
        given = predicted.bool() if isinstance(metric, metrics.LesionScores) else scores
        of_plain.update(given, target, mask)
        metric.update(kind(given), kind(target), kind(mask))
        assert all(are_plain(value) for value in metric.metric_state.values()), metric
        assert repr(metric.compute()) == repr(of_plain.compute())
    for function, arguments in (
        (metrics.average_precision, (scores, target, mask)),
        (metrics.roc_auc, (scores, target, mask)),
        (metrics.lesion_scores, (predicted[1, 0], target[1, 0])),
        (metrics.skeleton_precision, (predicted, target, mask)),
        (metrics.skeleton_recall, (predicted, target, mask)),
        (metrics.cl_dice, (predicted, target, mask)),
        (metrics.thickness_error, (predicted, target, mask)),
    ):
        result, expected = function(*(of_kind(kind, one) for one in arguments)), function(*arguments)
        assert are_plain(result), function
        assert repr(result) == repr(expected)
