"""Vessels: skeletons found and thickness, by hand, against the loss that measures it too, and with scikit-image's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rarepixel import functional, segments
from rarepixel.metrics import cl_dice, skeleton_precision, skeleton_recall, thickness_error
from rarepixel.reference import segments as reference

pytestmark = pytest.mark.usefixtures("one_thread")

SHARES = [skeleton_precision, skeleton_recall, cl_dice]


def vessels(seed: int, *shape: int) -> Tensor:
    """Branching shapes a few pixels wide."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    images = noise.reshape(-1, 1, *shape[-2:])
    for _ in range(3):
        images = F.avg_pool2d(images, 5, 1, 2)
    return (images.abs() < 0.35 * images.std()).reshape(shape)


def test_by_the_definition() -> None:
    target, prediction = vessels(0, 3, 2, 40, 50), vessels(0, 3, 2, 40, 50) & (torch.rand(3, 2, 40, 50) < 0.9)
    mask = torch.rand(3, 1, 40, 50) < 0.7
    for image in (0, 1, 2):
        for channel in (0, 1):
            p, g, m = prediction[image, channel], target[image, channel], mask[image, 0]
            of_prediction, of_target = reference.thin(p) & m, reference.thin(g) & m
            precision = float((of_prediction & g).sum() / of_prediction.sum())
            recall = float((of_target & p).sum() / of_target.sum())
            expected = precision, recall, 2 * precision * recall / (precision + recall)
            assert precision != recall
            for share, value in zip(SHARES, expected, strict=True):
                found = share(prediction, target, mask)
                assert found.shape == (3, 2)
                assert found.dtype == torch.float64
                assert float(found[image, channel]) == pytest.approx(value, rel=1e-6)
                assert float(share(p.float(), g.long(), m.byte())) == float(found[image, channel])


def test_of_itself() -> None:
    target = vessels(1, 2, 30, 40)
    for share in SHARES:
        assert share(target, target).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("predicted", "annotated", "expected"),
    [
        (False, False, (math.nan, math.nan, math.nan)),
        (True, False, (0.0, math.nan, 0.0)),
        (False, True, (math.nan, 0.0, 0.0)),
    ],
)
def test_without_vessels(predicted: bool, annotated: bool, expected: tuple[float, float, float]) -> None:
    line = torch.zeros(8, 9, dtype=torch.bool)
    line[3] = True
    found = [float(share(line & predicted, line & annotated)) for share in SHARES]
    assert found == pytest.approx(expected, nan_ok=True)


def test_side_by_side() -> None:
    line = torch.zeros(9, 9, dtype=torch.bool)
    line[2] = True
    assert [float(share(line.flip(0), line)) for share in SHARES] == [0, 0, 0]


# ---- Thickness ------------------------------------------------------------------------------------------------------


def band(thickness: int, columns: slice = slice(None)) -> Tensor:
    image = torch.zeros(21, 48)
    image[10 - thickness // 2 : 11 + thickness // 2, columns] = 1
    return image


def test_bands_of_known_thickness() -> None:
    # Away from the ends, which thinning shortens, thickness is that of the band.
    for annotated, predicted in ((3, 5), (5, 3), (3, 1), (3, 3)):
        found = thickness_error(band(predicted), band(annotated))
        assert found.annotated[1:-1].tolist() == [annotated] * (len(found.annotated) - 2)
        assert found.error[1:-1].tolist() == [predicted - annotated] * (len(found.error) - 2)
        assert int(found.missed) == 0
    same = thickness_error(band(3), band(3))
    assert (float(same.mean_error), float(same.mean_absolute_error)) == (0, 0)


def test_signs_cancel_in_one_mean_alone() -> None:
    prediction = band(5)
    prediction[:, 24:] = band(1)[:, 24:]
    found = thickness_error(prediction, band(3))
    assert float(found.mean_absolute_error) > 1.5 > abs(float(found.mean_error))
    assert float(found.mean_error) == pytest.approx(float(found.error.mean()))


def test_missed_segments_have_no_error() -> None:
    found = thickness_error(band(3, slice(0, 24)), band(3))
    assert int(found.segments) == len(found.error)
    assert 0 < int(found.missed) == int(found.error.isnan().sum()) < int(found.segments)
    assert float(found.mean_absolute_error) < 0.5
    half = band(3, slice(0, 28))
    assert int(thickness_error(half, band(3), min_coverage=0.9).missed) == 3
    assert int(thickness_error(half, band(3), min_coverage=0).missed) == 2
    nothing = thickness_error(torch.zeros(21, 48), band(3))
    assert int(nothing.missed) == int(nothing.segments)
    assert math.isnan(nothing.mean_error)


def test_no_vessels() -> None:
    found = thickness_error(band(3), torch.zeros(21, 48))
    assert (len(found.error), int(found.segments)) == (0, 0)
    assert math.isnan(found.mean_absolute_error)


@pytest.mark.parametrize("shape", [(60, 70), (3, 60, 70), (2, 1, 60, 70)])
def test_the_loss_measures_the_same(shape: tuple[int, ...]) -> None:
    target = vessels(2, *shape)
    prediction = vessels(2, *shape) ^ (torch.rand(shape) < 0.05)
    prediction[..., 20:35, 20:50] = False
    mask = torch.rand(shape[-2:]) < 0.95
    found = thickness_error(prediction, target, mask, min_coverage=0.6)
    images = (-1, 1, *shape[-2:])
    of_loss = segments.segment_map(target.reshape(images), mask=mask)
    _, stats = functional.segment_thickness(
        prediction.reshape(images).double() - 0.5,
        target.reshape(images),
        of_loss,
        mask=mask,
        min_coverage=0.6,
        return_stats=True,
    )
    assert len(found.error) == len(of_loss) > 20
    assert torch.equal(found.images, of_loss.images)
    torch.testing.assert_close(found.annotated, stats.annotated_thickness, equal_nan=True)
    torch.testing.assert_close(found.predicted.nan_to_num(0.0), stats.predicted_thickness.nan_to_num(0.0))
    assert 0 < int(found.missed) < int(found.segments)


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(3, 4)


@pytest.mark.parametrize("function", [*SHARES, thickness_error])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[0], X[0]), ValueError, "prediction: expected at least two dimensions, (*, H, W), got shape (4,)"),
        ((X, X[1:]), ValueError, "target: expected the shape of prediction (3, 4), got (2, 4)"),
        ((X + 0.5, X), ValueError, "prediction: expected labels 0 and 1, got 0.5 (12 pixels are neither)"),
        ((X, X + 2), ValueError, "target: expected labels 0 and 1, got 2.0 (12 pixels are neither)"),
        ((X, X, X), TypeError, "mask: expected dtype bool, uint8, got float32"),
        ((X, X, X[:, 1:] > 0), ValueError, "mask: expected a shape that broadcasts to (3, 4), got (3, 3)"),
    ],
)
def test_arguments_that_are_refused(
    function: Callable[..., Any], arguments: tuple[Tensor, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        function(*arguments)
    assert str(raised.value) == message
