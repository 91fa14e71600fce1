"""Deep supervision: sums, weights, upsampling, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from rarepixel import DeepSupervision
from rarepixel.segments import segment_map

LOSS = rarepixel.SquaredErrorLoss()


@pytest.mark.parametrize(("size", "mode"), [((16,), "linear"), ((16, 20), "bilinear"), ((8, 10, 12), "trilinear")])
def test_smaller_outputs_are_enlarged(size: tuple[int, ...], mode: str) -> None:
    target = torch.rand(2, 1, *size) < 0.2
    outputs = [torch.randn(2, 1, *(s // shrink for s in size), requires_grad=True) for shrink in (1, 2, 4)]
    loss = DeepSupervision(LOSS)(outputs, target)
    enlarged = [F.interpolate(output, size=size, mode=mode, align_corners=False) for output in outputs]
    torch.testing.assert_close(loss, sum(LOSS(output, target) for output in enlarged))
    assert all((gradient != 0).any() for gradient in torch.autograd.grad(loss, outputs))


def test_an_output_of_the_targets_size_is_left_alone() -> None:
    logits, target = torch.randn(1, 1, 9, 9), torch.rand(1, 1, 9, 9) < 0.2
    assert DeepSupervision(LOSS)([logits], target) == LOSS(logits, target)


def test_weights_and_further_arguments() -> None:
    target, mask = torch.rand(1, 1, 8, 8) < 0.2, torch.eye(8, dtype=torch.bool)
    outputs = [torch.randn(1, 1, 8, 8) for _ in range(3)]
    loss = DeepSupervision(LOSS, weights=(1, 0.5, 0))(outputs, target, mask=mask)
    torch.testing.assert_close(loss, LOSS(outputs[0], target, mask) + 0.5 * LOSS(outputs[1], target, mask))


def test_derivatives_of_every_kind() -> None:
    target = torch.rand(3, 1, 8, 8) < 0.2
    outputs = [torch.randn(3, 1, size, size, dtype=torch.float64) for size in (8, 4)]
    criterion = rarepixel.TwoStage(DeepSupervision(LOSS, weights=(1, 0.5)), LOSS, switch_at=1)

    def loss(large: Tensor, small: Tensor, y: Tensor) -> Tensor:
        value: Tensor = criterion([large[None], small[None]], y[None])
        return value

    of_samples = torch.vmap(torch.func.grad(loss, argnums=(0, 1)))(*outputs, target)
    leaves = [output.requires_grad_() for output in outputs]
    expected = torch.autograd.grad(torch.vmap(loss)(*leaves, target).sum(), leaves)
    torch.testing.assert_close(of_samples, expected)
    changes = tuple(torch.randn_like(output) for output in outputs)
    mean, change = torch.func.jvp(lambda *heads: criterion(list(heads), target), tuple(outputs), changes)
    inner = sum((slopes * change).sum() for slopes, change in zip(expected, changes, strict=True))
    torch.testing.assert_close(3 * change, inner)
    torch.testing.assert_close(mean, criterion(outputs, target))


def test_index_maps() -> None:
    target = torch.randint(0, 3, (2, 8, 8))
    outputs = [torch.randn(2, 2, 8, 8), torch.randn(2, 2, 4, 4)]
    criterion = rarepixel.MultiChannelBinLoss()
    expected = criterion(outputs[0], target) + criterion(
        F.interpolate(outputs[1], size=(8, 8), mode="bilinear", align_corners=False), target
    )
    torch.testing.assert_close(DeepSupervision(criterion)(outputs, target), expected)


def test_steps_its_loss() -> None:
    criterion = DeepSupervision(rarepixel.TopKLoss(lambda iteration: 100 - iteration))
    criterion.step()
    assert criterion.loss.schedule.iteration == 1
    DeepSupervision(LOSS).step()
    criterion.iteration = 5
    assert criterion.iteration == criterion.loss.iteration == 5
    with pytest.raises(AttributeError, match="iteration"):
        _ = DeepSupervision(LOSS).iteration


def test_compiles_without_graph_breaks() -> None:
    torch.compiler.reset()
    criterion = DeepSupervision(rarepixel.TopKLoss(0.2), weights=(1, 2))
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    outputs = [torch.randn(1, 1, 16, 16), torch.randn(1, 1, 8, 8)]
    target = torch.rand(1, 1, 16, 16) < 0.1
    torch.testing.assert_close(compiled(outputs, target), criterion(outputs, target))


class Seen(torch.nn.Module):
    """A loss that shows what it is given."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, logits: Tensor, target: Tensor, *further: Any, **options: Any) -> Tensor:
        self.calls.append((target, *further, *options.values()))
        return logits.sum()


def shrunk(resize: str, output: Tensor, target: Any, *further: Any, loss: Any = None, **options: Any) -> Any:
    loss = loss or Seen()
    DeepSupervision(loss, resize=resize)([output], target, *further, **options)
    (arguments,) = loss.calls
    return tuple(arguments)


@pytest.mark.parametrize("size", [(13,), (12, 18), (13, 19), (7, 9, 11)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_loses_no_rare_pixel(size: tuple[int, ...], channels: int) -> None:
    output = torch.zeros(2, channels, *(side // 3 for side in size))
    for pixel in torch.randint(0, 10**6, (5,)).tolist():
        target = torch.zeros(2, channels, *size, dtype=torch.uint8)
        target[1, channels - 1].view(-1)[pixel % target[0, 0].numel()] = 1
        (found,) = shrunk("any", output, target)
        assert found.dtype == torch.uint8
        assert found.shape == output.shape
        assert found.flatten(2).any(dim=2).nonzero().tolist() == [[1, channels - 1]]


def test_any_takes_the_largest_class_but_the_background_of_what_counts() -> None:
    target = torch.tensor([[0, 1, 2, 1, 2, 2, 0, 0, 255, 0, 255, 255]])
    output = torch.zeros(1, 3, 6)
    (found,) = shrunk("any", output, target, loss=Seen(ignore_index=255))
    assert found.tolist() == [[1, 2, 2, 0, 0, 255]]
    (found,) = shrunk("any", output, target, loss=Seen(ignore_index=255, background=2))
    assert found.tolist() == [[1, 1, 2, 0, 0, 255]]
    (found,) = shrunk("any", output, target.unsqueeze(1).half(), loss=Seen(ignore_index=(255, 2)))
    assert found.tolist() == [[[1, 1, 255, 0, 0, 255]]]
    mask = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1], dtype=torch.uint8)
    found, inside = shrunk("any", output, target, loss=Seen(ignore_index=255), mask=mask)
    assert found.tolist() == [[0, 2, 255, 0, 0, 255]]
    assert inside.tolist() == [1, 1, 0, 1, 1, 1]
    one_hot = F.one_hot(target % 3, 3).movedim(-1, 1)
    (found,) = shrunk("any", output, one_hot, loss=Seen(activation="softmax"))
    assert found.tolist() == [[[1, 2, 2, 0, 0, 0]]]


def test_nearest_is_one_pixel_of_everything() -> None:
    target, mask, weights = torch.arange(12).reshape(1, 12), torch.arange(12) % 5 > 0, torch.arange(12) / 7
    output = torch.zeros(1, 20, 4)
    found, positional, named, other = shrunk("nearest", output, target, weights, mask=mask, other="other")
    assert found.tolist() == [[1, 4, 7, 10]]
    torch.testing.assert_close(positional, weights[1::3])
    assert torch.equal(named, mask[1::3])
    assert other == "other"
    (found,) = shrunk("nearest", torch.zeros(1, 20, 5), target)
    torch.testing.assert_close(
        found, F.interpolate(target[None].float(), size=5, mode="nearest-exact")[0].long(), rtol=0, atol=0
    )


def test_area_is_the_share_of_the_pixels_that_count() -> None:
    target = torch.tensor([[0, 1, 2, 255, 1, 1, 2, 255, 255, 255, 255, 255]])
    weights = torch.arange(12.0)
    loss = Seen(ignore_index=255, soft_labels=True)
    found, averaged = shrunk("area", torch.zeros(1, 3, 3), target, loss=loss, weights=weights)
    torch.testing.assert_close(found, torch.tensor([[[1 / 3, 0, 255], [1 / 3, 2 / 3, 255], [1 / 3, 1 / 3, 255]]]))
    assert averaged.tolist() == [1.5, 5.5, 9.5]
    mask = torch.tensor([0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0], dtype=torch.bool)
    labels = torch.tensor([[[1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1]]], dtype=torch.bool)
    found, inside = shrunk("area", torch.zeros(1, 1, 3, dtype=torch.float64), labels, mask)
    torch.testing.assert_close(found, torch.tensor([[[1 / 3, 0, 0]]], dtype=torch.float64))
    assert inside.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("loss", "resize"),
    [
        (rarepixel.TopKLoss(0.2, ignore_index=7), "any"),
        (rarepixel.MultiChannelBinLoss(background=1), "any"),
        (rarepixel.DiceLoss(activation="softmax"), "any"),
        (rarepixel.UnifiedFocalLoss(activation="softmax", ignore_index=7), "nearest"),
        (rarepixel.UnifiedFocalLoss(activation="softmax", soft_labels=True, ignore_index=7), "area"),
        (rarepixel.DiceLoss(soft_labels=True), "area"),
        (torch.nn.CrossEntropyLoss(), "any"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_losses_take_what_is_shrunk(loss: torch.nn.Module, resize: str) -> None:
    binary = getattr(loss, "activation", "") == "sigmoid" or isinstance(loss, rarepixel.TopKLoss)
    target = (torch.rand(2, 3, 12, 15) < 0.1).float() if binary else torch.randint(0, 3, (2, 12, 15))
    if getattr(loss, "ignore_index", None) == 7:
        target[..., :5] = 7
    outputs = [torch.randn(2, 3, *size, requires_grad=True) for size in ((12, 15), (6, 7), (3, 3))]
    criterion = DeepSupervision(loss, (1, 0.5, 0.25), resize=resize)
    total = criterion(outputs, target)
    assert torch.isfinite(total)
    assert all((gradient != 0).any() for gradient in torch.autograd.grad(total, outputs))
    if not isinstance(loss, torch.nn.CrossEntropyLoss):
        torch.compiler.reset()
        compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(outputs, target), total)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("resize", ["any", "nearest", "area"])
def test_masks_and_weights_of_all_channels(resize: str, channels: int) -> None:
    criterion = DeepSupervision(rarepixel.DiceLoss(soft_labels=resize == "area"), resize=resize)
    target = (torch.rand(2, channels, 8, 8) < 0.3).float()
    outputs = [torch.randn(2, channels, 8, 8), torch.randn(2, channels, 4, 4)]
    mask = torch.rand(2, 8, 8) < 0.5
    mask[0, :, 2:] = False
    expected = criterion(outputs, target, mask=mask[:, None])
    assert torch.equal(criterion(outputs, target, mask=mask), expected)
    assert torch.equal(criterion(outputs, target, mask=mask[:, None].expand(target.shape)), expected)
    # Whole cells: others have a weight in between.
    whole = mask[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = criterion(outputs, target, mask=whole)
    torch.testing.assert_close(criterion(outputs, target, weight=2.0 * whole), expected)
    if resize == "any":  # the lesion in a corner of its cell is of weight 0
        one = torch.zeros(1, 1, 4, 4)
        one[..., 0, 0] = 1
        of_small = DeepSupervision(rarepixel.DiceLoss(), weights=(0, 1), resize=resize)
        levels = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)]
        nothing = of_small(levels, torch.zeros_like(one), weight=1 - one)
        torch.testing.assert_close(of_small(levels, one, weight=1 - one), nothing)


def test_a_target_for_each_output() -> None:
    sizes = ((16, 16), (8, 8), (4, 4))
    targets = [torch.rand(2, 1, *size) < 0.2 for size in sizes]
    masks = [torch.rand(2, 1, *size) < 0.8 for size in sizes]
    outputs = [torch.randn(2, 1, *size) for size in sizes]
    expected = sum(LOSS(*level) for level in zip(outputs, targets, masks, strict=True))
    for lists in ((targets, masks), (tuple(targets), tuple(masks))):
        torch.testing.assert_close(DeepSupervision(LOSS)(outputs, *lists), expected)
    finer = DeepSupervision(LOSS, resize="any")([outputs[1], outputs[2]], targets[:2])
    by_hand = LOSS(outputs[2], F.max_pool2d(targets[1].float(), 2)) + LOSS(
        outputs[1], F.max_pool2d(targets[0].float(), 2)
    )
    torch.testing.assert_close(finer, by_hand)
    with pytest.raises(ValueError, match="target: expected one for each of the 3 outputs, got 2"):
        DeepSupervision(LOSS)(outputs, targets[:2])


def test_a_level_of_weight_0_is_not_looked_at() -> None:
    target = torch.rand(1, 1, 8, 8) < 0.2
    outputs = [torch.randn(1, 1, 8, 8, requires_grad=True), torch.full((1, 1, 4, 4), torch.nan, requires_grad=True)]
    loss = DeepSupervision(LOSS, weights=(1, 0))(outputs, target)
    assert loss == LOSS(outputs[0], target)
    assert torch.autograd.grad(loss, outputs, allow_unused=True)[1] is None
    for dtype in (torch.float16, torch.float64):
        logits = outputs[1].detach().to(dtype).requires_grad_()
        nothing = DeepSupervision(LOSS, weights=(0,))([logits], target)
        assert nothing == 0
        assert nothing.dtype == LOSS(logits, target[..., ::2, ::2]).dtype
        nothing.backward()
        assert (logits.grad == 0).all()


def test_errors() -> None:
    target = torch.zeros(1, 1, 8, 8)
    with pytest.raises(TypeError, match=r"loss: expected a torch\.nn\.Module, got function"):
        DeepSupervision(F.mse_loss)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"weights: expected finite numbers, got \(1\.0, nan\)"):
        DeepSupervision(LOSS, weights=(1, float("nan")))
    with pytest.raises(TypeError, match="outputs: expected a sequence of tensors, got Tensor"):
        DeepSupervision(LOSS)(target, target)
    with pytest.raises(ValueError, match="outputs: expected at least one side output, got none"):
        DeepSupervision(LOSS)([], target)
    with pytest.raises(ValueError, match="outputs: expected one for each of the 2 weights, got 1"):
        DeepSupervision(LOSS, weights=(1, 1))([target], target)
    with pytest.raises(ValueError, match=r"outputs\[1\]: expected at most the target's size \(8, 8\), got \(9, 4\)"):
        DeepSupervision(LOSS)([target, torch.zeros(1, 1, 9, 4)], target)
    with pytest.raises(ValueError, match=r"outputs\[0\]: expected \(N, C, \*spatial\), got \(8, 8\)"):
        DeepSupervision(LOSS)([target[0, 0]], target)
    with pytest.raises(TypeError, match="loss: expected one that returns a tensor, got tuple"):
        DeepSupervision(rarepixel.SquaredErrorLoss(return_stats=True))([target], target)
    with pytest.raises(AttributeError, match="iteration: expected a loss that has one, got SquaredErrorLoss"):
        DeepSupervision(LOSS).iteration = 3
    with pytest.raises(TypeError, match=r"outputs: expected a torch\.Tensor, got a torch\.fx\.Proxy"):
        torch.fx.symbolic_trace(DeepSupervision(LOSS))
    with pytest.raises(ValueError, match="resize: expected one of 'outputs', 'any', 'nearest', 'area', got 'max'"):
        DeepSupervision(LOSS, resize="max")
    with pytest.raises(ValueError, match="resize: expected a loss with soft_labels=True for 'area', got SquaredError"):
        DeepSupervision(rarepixel.TwoStage(LOSS, LOSS, 1), resize="area")
    soft = DeepSupervision(rarepixel.DiceLoss(activation="softmax", soft_labels=True), resize="any")
    with pytest.raises(ValueError, match="resize: expected 'area' or 'nearest' for soft labels of a softmax, got 'an"):
        soft([torch.zeros(1, 2, 4)], torch.full((1, 2, 8), 0.5))
    with pytest.raises(ValueError, match=r"outputs\[0\]: expected at most the target's size \(8, 8\), got \(9, 9\)"):
        DeepSupervision(LOSS, resize="any")([torch.zeros(1, 1, 9, 9)], target)
    vessels = DeepSupervision(rarepixel.SegmentThicknessLoss(), resize="any")
    segments = segment_map(target)
    with pytest.raises(TypeError, match="1: expected what can be shrunk with its target, got a SegmentMap"):
        vessels([target[..., ::2, ::2]], target, segments)
    with pytest.raises(TypeError, match=r"segments: expected a mask or floating numbers .* got torch\.int32"):
        vessels([target[..., ::2, ::2]], target, segments=segments.ids)
