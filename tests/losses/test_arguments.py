"""What losses take beside plain tensors of whole shapes, where it does not depend on the loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import functional
from tests.losses.contract import SUBCLASSES, both_sides, native, nested


def some_labels(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.3).float()


@native
@pytest.mark.parametrize(
    ("kind", "options"), [*zip(SUBCLASSES, [{}, {"activation": "softmax"}], strict=True)], ids=["sigmoid", "softmax"]
)
def test_subclasses_compile(kind: type[Tensor], options: dict[str, Any]) -> None:
    torch.compiler.reset()
    x, y, mask = torch.randn(2, 3, 4, 5), some_labels(2, 4, 5), torch.rand(2, 4, 5) < 0.7
    if not options:
        y = y.unsqueeze(1).expand(x.shape)
    weights = torch.tensor([1.0, 2.0, 3.0]) if options else None

    def step(logits: Tensor, target: Tensor, mask: Tensor, weights: Any) -> Any:
        return functional.weighted_cross_entropy(logits, target, mask=mask, class_weights=weights, **options)

    plain = x.clone().requires_grad_()
    expected = step(plain, y, mask, weights)
    expected.backward()
    mine = x.as_subclass(kind).requires_grad_()
    of_kind = None if weights is None else weights.as_subclass(kind)
    loss = torch.compile(step, fullgraph=True)(mine, y.as_subclass(kind), mask.as_subclass(kind), of_kind)
    assert type(loss) is Tensor
    loss.backward()
    assert torch.equal(loss, expected)
    assert mine.grad is not None
    assert torch.equal(mine.grad.as_subclass(Tensor), plain.grad)


@native
def test_other_arguments_of_subclasses_and_numpy() -> None:
    kind = SUBCLASSES[0]
    x, y = torch.randn(2, 1, 8, 9), some_labels(2, 1, 8, 9)
    seed, uniform = torch.tensor(3), torch.rand(x.shape)
    drop = functional.random_drop
    for given in (seed.as_subclass(kind), numpy.int64(3), numpy.uint8(3)):
        assert torch.equal(drop(x, y, seed=given), drop(x, y, seed=seed))
    assert torch.equal(drop(x, y, uniform=uniform.as_subclass(kind)), drop(x, y, uniform=uniform))
    ids = rarepixel.segments.segment_map(y).ids
    thickness = functional.segment_thickness
    assert type(thickness(x, y, ids.as_subclass(kind))) is Tensor
    assert torch.equal(thickness(x, y, ids.as_subclass(kind)), thickness(x, y, ids))


@native
def test_unusual_labels_and_masks_compile() -> None:
    torch.compiler.reset()
    x, y = torch.randn(2, 1, 8, 9), some_labels(2, 8, 9)
    y[:, 0], y[:, 1] = 254, 255
    mask = some_labels(2, 8, 9)

    def step(logits: Tensor, target: Tensor, mask: Tensor) -> Any:
        return functional.squared_error(logits, target, mask=mask, ignore_index=(254, 255))

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for dtype in (torch.uint16, torch.uint8):
        assert torch.equal(compiled(x, y.to(dtype), mask), step(x, y, mask))


@both_sides
def test_class_weights(side: Any) -> None:
    x, y = torch.randn(2, 3, 8, 9), torch.randint(0, 3, (2, 8, 9))

    def loss(weights: Any) -> Tensor:
        value: Tensor = side.weighted_cross_entropy(x, y, class_weights=weights, activation="softmax")
        return value

    expected = loss(torch.tensor([1.0, 2.0, 5.0]))
    array = numpy.array([1, 2, 5])
    for weights in ([1, 2, 5], (1, 2.0, numpy.float32(5)), array, array.astype("float32"), torch.tensor([1, 2, 5])):
        assert torch.equal(loss(weights), expected)
        criterion = rarepixel.WeightedCrossEntropyLoss(class_weights=weights, activation="softmax")
        torch.testing.assert_close(criterion(x, y), expected)
    for wrong, error, text in (
        ([1, True, 5], TypeError, "class_weights: expected numbers, got True"),
        ("abc", TypeError, "class_weights: expected a torch.Tensor or a sequence of numbers, got str"),
        ([1, -2, 5], ValueError, r"class_weights: expected finite numbers of at least 0, got -2\.0"),
        ([1, 2], ValueError, r"class_weights: expected shape \(3,\), got \(2,\)"),
        (2.0, TypeError, "class_weights: expected a torch.Tensor or a sequence of numbers, got float"),
        (numpy.ones((1, 3)), TypeError, "class_weights: .* a sequence of numbers, got an array of 2 dimensions"),
        (torch.ones(3).bool(), TypeError, "class_weights: expected dtype .* got bool"),
    ):
        with pytest.raises(error, match=text):
            loss(wrong)


@both_sides
def test_masks_bools_and_labels_that_mean_nothing(side: Any) -> None:
    x, y = torch.randn(2, 3, 8, 9), torch.rand(2, 3, 8, 9) < 0.3
    expected = side.dice(x, y, class_weights=[1, 2, 5])
    for dtype in (torch.uint8, torch.uint16, torch.int64):
        mask, weights = torch.ones(2, 8, 9).to(dtype), torch.tensor([1, 2, 5]).to(dtype)
        torch.testing.assert_close(side.dice(x, y, mask=mask, class_weights=weights), expected)
    for flag in (numpy.bool_(True), numpy.bool_(False)):
        soft = side.dice(x, y.float(), soft_labels=flag)
        assert torch.equal(soft, side.dice(x, y.float(), soft_labels=bool(flag)))
        assert rarepixel.DiceLoss(soft_labels=flag).soft_labels is bool(flag)
    ragged = nested(torch.ones(2, 3, 4))
    for call, error, text in (
        (lambda: side.dice(x, y, mask=ragged), TypeError, "mask: expected a dense tensor, got a nested one"),
        (
            lambda: side.unified_focal(x, y, weight=torch.ones(8, 9)),
            TypeError,
            "weight: expected a number.* pixel_weight",
        ),
        (
            lambda: side.hybrid_focal(x, y, weight=torch.ones(8, 9)),
            TypeError,
            "weight: expected a number.* pixel_weight",
        ),
        (
            lambda: side.bin_loss(x, y, caffe=True, positive_weight=[1, 2, 3]),
            ValueError,
            "positive_weight: expected one",
        ),
    ):
        with pytest.raises(error, match=text):
            call()


def test_options_of_numpy_beside_the_losses() -> None:
    schedule = rarepixel.schedules.LinearDecay(numpy.float32(0.5), numpy.int64(100), numpy.int32(10))
    assert schedule.is_share
    assert schedule.at(10) == 0.45
    assert not rarepixel.schedules.Cosine(numpy.int64(9), numpy.int64(3), numpy.int64(4)).is_share
    assert not rarepixel.schedules.Schedule(lambda n: numpy.int64(9 - n)).is_share
    criteria = rarepixel.TopKLoss(numpy.int64(3)), rarepixel.SquaredErrorLoss()
    two = rarepixel.TwoStage(*criteria, switch_at=numpy.int64(3))
    assert type(two.switch_at) is int
    two.iteration = numpy.int64(2)
    assert type(two.iteration) is int
    with pytest.raises(TypeError, match="switch_at: expected an int, got True"):
        rarepixel.TwoStage(*criteria, switch_at=True)
    joint = rarepixel.JointLoss(rarepixel.SegmentThicknessLoss(), criteria[1], ratio=numpy.float32(0.5))
    assert type(joint.ratio) is float


@both_sides
def test_images_without_their_channel_cause_a_warning(side: Any) -> None:
    for shape in ((2, 32, 32), (1, 64, 20), (2, 16, 16)):
        with pytest.warns(UserWarning, match=r"logits: three dimensions are read as \(N, C, L\).*unsqueeze\(1\)"):
            side.squared_error(torch.zeros(shape), torch.zeros(shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((2, 3, 64), (2, 8, 8), (1, 64, 8), (2, 12, 1000), (2, 1, 64, 64)):
            side.squared_error(torch.zeros(shape), torch.zeros(shape))
        compiled = torch.compile(side.squared_error, fullgraph=True, backend="eager")
        compiled(torch.zeros(2, 32, 32), torch.zeros(2, 32, 32))
