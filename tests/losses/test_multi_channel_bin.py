"""The multi-channel bin loss: kernels against the twin, hand-computed cases, Caffe's peculiarities, errors."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch

import rarepixel
from rarepixel import functional, reference
from tests.losses.contract import (
    LossContract,
    assert_infinite_logits_are_the_limit,
    assert_same_results,
    both_sides,
    by_sample,
    call,
    native,
    positives,
)
from tests.samples import Sample, index_maps


class TestContract(LossContract):
    name = "multi_channel_bin"
    criterion = rarepixel.MultiChannelBinLoss
    kind = index_maps.OF_CHANNELS
    share: ClassVar = slice(1, None, 2)  # the losses of other labels have the others
    variants: ClassVar = [{"key": 10}, {"key": 0}, {"key": 1}]
    regions: ClassVar = [({}, 1)]  # an image
    operator_options: ClassVar = {"key": 2}
    label_errors: ClassVar = [
        (lambda x, y: (x, y[:1]), {}, ValueError,
         r"target: expected a map of class indices of shape \(2, 8, 9\) or \(2, 1, 8, 9\), got \(1, 8, 9\)"),
        (lambda x, _: (x, x), {}, ValueError, r"target: expected a map of class indices .* got \(2, 2, 8, 9\)"),
        (lambda x, y: (x[:, :0], y), {}, ValueError, r"logits: expected at least one channel, got shape \(2, 0, 8, 9"),
        (lambda x, y: (x, y + 3), {}, ValueError,
         r"target: expected a class index from 0 to 2 on every pixel that counts, got 3 \(invalid on 144 pixels\)"),
        (lambda x, y: (x, y - 1), {"ignore_index": 255}, ValueError,
         r"a class index from 0 to 2, or ignore_index=255, .* got -1"),
        (lambda x, y: (x, y + 0.5), {}, ValueError, r"got 0\.5"),
    ]  # fmt: skip


@native
@by_sample(index_maps.OF_CHANNELS.samples)
def test_matches_reference_like_caffe(sample: Sample, device: torch.device) -> None:
    for dtype in (torch.float32, torch.float64):
        logits, target, options = sample.arguments(dtype, device)
        for key in (1, 3, 10):
            results = [
                call(side.multi_channel_bin, logits, target, key=key, caffe=True, **options)
                for side in (functional, reference)
            ]
            assert_same_results(*results, dtype)


@both_sides
def test_infinite_logits_like_caffe(side: Any, device: torch.device) -> None:
    x, target = (tensor.to(device) for tensor in index_maps.of_channels((2, 3, 7, 9))(torch.float32))
    for key in (1, 3):
        how = {"key": key, "caffe": True}
        assert_infinite_logits_are_the_limit(side.multi_channel_bin, x, target, positives(x, target, 1), **how)


# ---- Hand-computed --------------------------------------------------------------------------------------------------


@both_sides
def test_hand_computed(side: Any, device: torch.device) -> None:
    # Channel 0: positive p = 1/2 | negatives 9/10, 1/2, 1/10. Channel 1: positive 4/5 | negatives 3/10, 3/10, 7/10.
    p = torch.tensor([[0.5, 0.9, 0.5, 0.1], [0.3, 0.8, 0.3, 0.7]], dtype=torch.float64, device=device)
    x = torch.logit(p).reshape(1, 2, 4).requires_grad_()
    y = torch.tensor([[1, 2, 0, 0]], device=device)
    loss, stats = side.multi_channel_bin(x, y, key=1, reduction="sum", return_stats=True)
    # key 1: one negative a channel, 9/10 and 7/10. N+ = 2, N- = 2: both weights 1/2.
    assert stats.kept_negatives.tolist() == [[1, 1]]
    expected = 0.5 * (math.log(2) + math.log(1.25) + math.log(10) + math.log(10 / 3))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.flatten().tolist() == pytest.approx([-0.25, 0.45, 0, 0, 0, -0.1, 0, 0.35], rel=1e-12)
    # "mean" divides by the sum of weights, 1/2 of 4 pixels.
    assert side.multi_channel_bin(x, y, key=1).item() == pytest.approx(expected / 2, rel=1e-12)

    # key 3: all negatives of both channels, N- = 6, w+ = 3/4, w- = 1/4.
    loss = side.multi_channel_bin(x, y, key=3, reduction="sum")
    negatives = [0.9, 0.5, 0.1, 0.3, 0.3, 0.7]
    expected = 0.75 * (math.log(2) + math.log(1.25)) - 0.25 * sum(math.log(1 - q) for q in negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@both_sides
def test_one_channel_is_the_bin_loss(side: Any, device: torch.device) -> None:
    x = torch.randn(2, 1, 20, 20, device=device)
    y = (torch.rand(2, 20, 20, device=device) < 0.05).long()
    for reduction in ("sum", "mean"):
        torch.testing.assert_close(
            side.multi_channel_bin(x, y, key=7, reduction=reduction),
            side.bin_loss(x, y.unsqueeze(1), key=7, reduction=reduction),
        )


@both_sides
def test_channels_are_balanced_together(side: Any, device: torch.device) -> None:
    x = torch.randn(1, 3, 20, 20, device=device)
    y = torch.randint(0, 3, (1, 20, 20), device=device)
    _, stats = side.multi_channel_bin(x, y, key=1, return_stats=True)
    positives, kept = stats.positives.sum(), stats.kept_negatives.sum()
    torch.testing.assert_close(stats.positive_weight, (kept / (positives + kept)).expand(1, 3))
    torch.testing.assert_close(stats.negative_weight, (positives / (positives + kept)).expand(1, 3))


@both_sides
def test_caffe_sees_the_first_image_alone(side: Any, device: torch.device) -> None:
    x = torch.randn(3, 2, 9, 9, device=device, requires_grad=True)
    y = torch.randint(0, 3, (3, 9, 9), device=device)
    loss = side.multi_channel_bin(x, y, key=2, caffe=True)
    assert loss == side.multi_channel_bin(x[:1], y[:1], key=2, caffe=True)
    (gradient,) = torch.autograd.grad(loss, x)
    assert (gradient[1:] == 0).all()
    assert (gradient[0] != 0).any()


@both_sides
def test_caffe_does_not_depend_on_the_default_dtype(side: Any) -> None:
    x, y = torch.randn(2, 3, 9, 9), torch.randint(0, 4, (2, 9, 9))
    expected = side.multi_channel_bin(x, y, caffe=True)
    before = torch.get_default_dtype()
    for dtype in (torch.float64, torch.float16):
        torch.set_default_dtype(dtype)
        try:
            found = side.multi_channel_bin(x, y, caffe=True)
        finally:
            torch.set_default_dtype(before)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


@both_sides
def test_caffe_takes_other_labels_for_background(side: Any, device: torch.device) -> None:
    x = torch.randn(1, 2, 9, 9, device=device)
    y = torch.randint(0, 3, (1, 9, 9), device=device)
    spoilt = torch.where((y == 0) & (torch.rand(y.shape, device=device) < 0.3), 255, y)
    assert side.multi_channel_bin(x, spoilt, caffe=True) == side.multi_channel_bin(x, y, caffe=True)


@both_sides
@pytest.mark.parametrize("background", [0, 1, 2])
@pytest.mark.parametrize("ignore_index", [None, 255, 0, 1, -100])
def test_a_channel_of_the_background_is_left_out(
    side: Any, background: int, ignore_index: int | None, device: torch.device
) -> None:
    kept = [channel for channel in range(3) if channel != background]
    x = torch.randn(2, 3, 9, 11, device=device).contiguous(memory_format=torch.channels_last)
    x[:, background, 0] = torch.nan
    y = torch.randint(0, 3, (2, 9, 11), device=device, dtype=torch.int16)
    y[:, 3] = 1 if ignore_index is None else ignore_index
    labels = sum((y == channel) * (number + 1) for number, channel in enumerate(kept))
    mask = torch.ones_like(y, dtype=torch.bool) if ignore_index is None else y != ignore_index
    own = x[:, kept]
    loss, gradient, stats = call(side.multi_channel_bin, x, y, key=1, background=background, ignore_index=ignore_index)
    expected = call(side.multi_channel_bin, own, labels, key=1, mask=mask.unsqueeze(1))
    assert torch.equal(loss, expected[0])
    assert torch.equal(gradient[:, kept], expected[1])
    assert (gradient[:, background] == 0).all()
    assert all(map(torch.equal, stats, expected[2]))
    x.requires_grad_()
    (slope,) = torch.autograd.grad(side.multi_channel_bin(x, y % 3, background=background), x)
    assert slope.stride() == x.stride()
    if side is functional and ignore_index == 255:
        torch.compiler.reset()
        compiled = torch.compile(side.multi_channel_bin, fullgraph=True, backend="aot_eager")
        how = {"key": 1, "background": background, "ignore_index": ignore_index}
        assert torch.equal(compiled(x, y, **how), loss)


@both_sides
@pytest.mark.parametrize("background", [0, 1, 2])
def test_labels_beyond_the_channels_show_a_wrong_background(side: Any, background: int) -> None:
    x = torch.zeros(1, 3, 4, 4)
    for wrong in (3.0, -1.0, 0.5):
        y = torch.zeros(1, 4, 4)
        y[0, 2, 2] = wrong
        with pytest.raises(ValueError, match=f"expected a class index from 0 to 2 .* got {wrong}"):
            side.multi_channel_bin(x, y, background=background)


# ---- Options --------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)
Y = torch.zeros(2, 8, 9, dtype=torch.int64)


@both_sides
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"key": -1}, ValueError, "key: expected at least 0, got -1"),
        ({"key": 1.0}, TypeError, r"key: expected an int, got 1\.0"),
        ({"reduction": "sum", "caffe": True}, ValueError, "caffe: expected reduction to be left alone"),
        ({"background": 0, "caffe": True}, ValueError, "background: expected None beside caffe=True"),
        ({"background": 3}, ValueError, "background: expected a channel from 0 to 2, got 3"),
        ({"background": -1}, ValueError, "background: expected a channel from 0 on, got -1"),
        ({"background": True}, TypeError, "background: expected an int, got True"),
    ],
)
def test_errors(side: Any, options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        side.multi_channel_bin(X, Y, **options)


def test_module_checks_its_key_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="key: expected at least 0"):
        rarepixel.MultiChannelBinLoss(key=-1)


def test_module_says_what_it_is() -> None:
    assert repr(rarepixel.MultiChannelBinLoss()) == (
        "MultiChannelBinLoss(key=10, caffe=False, background=None, reduction='mean', ignore_index=None)"
    )
