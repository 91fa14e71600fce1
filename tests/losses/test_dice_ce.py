"""Dice plus cross-entropy, over a softmax and over sigmoids: the sum of its two parts, in one pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from rarepixel._criterion import make_loss
from tests.conftest import assert_close
from tests.losses.contract import both_sides, wide
from tests.losses.family import SOFTMAX, softmax_inputs, value_and_gradient
from tests.samples.binary import random_inputs

SHAPE = (2, 3, 9, 11)
MASK = torch.rand(2, 1, 9, 11, generator=torch.Generator().manual_seed(0)) < 0.7
WEIGHT = torch.rand(2, 1, 9, 11, generator=torch.Generator().manual_seed(1))
SHARED: list[dict[str, Any]] = [
    {},
    {"include_background": True},
    {"smooth": 1.0},
    {"absent": "skip"},
    {"class_weights": [1.0, 3.0, 0.5]},
    {"label_smoothing": 0.2},
    {"balance": "batch"},
    {"balance": "image"},
    {"reduction": "none"},
    {"reduction": "sum"},
    {"mask": MASK},
    {"weight": WEIGHT},
    {"ignore_index": 1},
]
SOFT: list[dict[str, Any]] = [{"soft_labels": True}, {"soft_labels": True, "soft_overlap": "product"}]
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("dice_ce", options) for options in (*SHARED, *SOFT, {"background": 2})),
    *(("dice_bce", options) for options in (*SHARED, *SOFT, {"balance": "class"}, {"positive_weight": 4.0})),
    ("dice_bce", {"positive_weight": [1.0, 2.0, 5.0]}),
]
OF_DICE = {"include_background", "smooth", "absent"}
OF_CROSS_ENTROPY = {"label_smoothing", "positive_weight"}
OF_PIXELS = {"dice_ce": "ce_weight", "dice_bce": "bce_weight"}


def inputs(name: str, options: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    logits, target = softmax_inputs(SHAPE, dtype) if name == "dice_ce" else random_inputs(SHAPE, 0.2)(dtype)
    if options.get("soft_labels"):
        soft = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2), dtype=dtype)
        target = soft / soft.sum(1, keepdim=True) if name == "dice_ce" else soft
    return logits, target


@both_sides
@pytest.mark.parametrize(("name", "options"), CASES)
def test_it_is_the_sum_of_its_parts(side: Any, name: str, options: dict[str, Any], device: torch.device) -> None:
    logits, target = (t.to(device) for t in inputs(name, options))
    given = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in options.items()}
    activation = SOFTMAX if name == "dice_ce" else {}
    of_dice, labels = {k: v for k, v in given.items() if k not in OF_CROSS_ENTROPY}, target
    if "label_smoothing" in options:  # which makes soft labels of them, in the overlap too
        one_hot = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) if name == "dice_ce" else target
        labels = 0.8 * one_hot.double() + 0.2 / (3 if name == "dice_ce" else 2)
        of_dice["soft_labels"] = True
    dice = value_and_gradient(side.dice, logits, labels, **of_dice, **activation)
    of_pixels = {k: v for k, v in given.items() if k not in OF_DICE}
    cross_entropy = value_and_gradient(side.weighted_cross_entropy, logits, target, **of_pixels, **activation)
    both = value_and_gradient(getattr(side, name), logits, target, dice_weight=0.7, **{OF_PIXELS[name]: 1.9}, **given)
    for mine, overlap, pixels in zip(both, dice, cross_entropy, strict=True):
        torch.testing.assert_close(mine, 0.7 * overlap + 1.9 * pixels, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_kernels_match_their_twin(name: str, options: dict[str, Any], dtype: torch.dtype, device: torch.device) -> None:
    logits, target = (t.to(device) for t in inputs(name, options, dtype))
    given = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in options.items()}
    mine, expected = (
        value_and_gradient(getattr(side, name), logits, target, **given) for side in (functional, reference)
    )
    assert_close(mine[0], expected[0], wide(dtype))
    assert_close(mine[1], expected[1], dtype)
    module = getattr(rarepixel, "DiceCELoss" if name == "dice_ce" else "DiceBCELoss")
    criterion = module(**{k: v for k, v in given.items() if k not in ("mask", "weight")})
    tensors = {k: v for k, v in given.items() if k in ("mask", "weight")}
    assert torch.equal(criterion(logits, target, **tensors), getattr(functional, name)(logits, target, **given))
    assert "activation" not in repr(criterion)


@both_sides
def test_by_hand(side: Any, device: torch.device) -> None:
    """Three pixels, three classes; p of the true class 1/2, 1/4 and 3/5."""
    p = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], dtype=torch.float64, device=device)
    y = torch.tensor([0, 1, 2], device=device)
    # Class 1: TP 1/4, FN 3/4, FP 3/10 + 1/5; class 2: TP 3/5, FN 2/5, FP 1/5 + 1/4.
    dice = ((1 - 0.5 / (0.5 + 0.75 + 0.5)) + (1 - 1.2 / (1.2 + 0.4 + 0.45))) / 2
    cross_entropy = -torch.tensor([0.5, 0.25, 0.6], dtype=torch.float64).log().mean().item()
    loss = side.dice_ce(p.log().T[None], y[None], smooth=0.0)
    assert loss.item() == pytest.approx(dice + cross_entropy, rel=1e-12, abs=0)
    # Sigmoids: p 4/5 on a positive, 1/4 on a negative; positives weigh 3.
    p, y = torch.tensor([0.8, 0.25], dtype=torch.float64, device=device), torch.tensor([1, 0], device=device)
    dice = 1 - 1.6 / (1.6 + 0.2 + 0.25)
    cross_entropy = -(3 * math.log(0.8) + math.log(0.75)) / 2
    loss = side.dice_bce(torch.logit(p)[None, None], y[None, None], positive_weight=3, bce_weight=2, smooth=0.0)
    assert loss.item() == pytest.approx(dice + 2 * cross_entropy, rel=1e-12, abs=0)


def test_it_is_a_combo(device: torch.device) -> None:
    logits, target = (t.to(device) for t in inputs("dice_ce", {}))
    combo = functional.combo(logits, target, alpha=2 * 0.6 / 1.9, beta=0.5, activation="softmax")
    # Combo's cross-entropy is halved by beta.
    mine = functional.dice_ce(logits, target, dice_weight=0.7, ce_weight=0.6)
    torch.testing.assert_close(mine, 1.9 * combo)


@pytest.mark.parametrize("name", ["dice_ce", "dice_bce"])
def test_compiles_and_passes_gradcheck(name: str) -> None:
    torch.compiler.reset()
    logits, target = inputs(name, {})
    criterion = make_loss(name, steps=1, activation="softmax" if name == "dice_ce" else "sigmoid")
    compiled = torch.compile(criterion, fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(logits, target), criterion(logits, target))
    few = logits[..., :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: criterion(x, target[..., :2, :3]), few)


def test_deep_supervision_knows_what_their_labels_are() -> None:
    """Cells in which no lesion is are of the background alone: over a softmax, which one-hot labels do not say."""
    logits, target = inputs("dice_ce", {})
    one_hot = torch.nn.functional.one_hot(target, 3).movedim(-1, 1)
    criterion = rarepixel.DeepSupervision(rarepixel.DiceCELoss(), resize="any")
    small = [logits[..., :4, :5].contiguous()]
    torch.testing.assert_close(criterion(small, one_hot), criterion(small, target))
    assert rarepixel.DiceBCELoss().activation == "sigmoid"


@both_sides
def test_errors(side: Any) -> None:
    for name, option in (("dice_ce", "ce_weight"), ("dice_bce", "bce_weight"), ("dice_bce", "positive_weight")):
        for one in (option, "dice_weight"):
            with pytest.raises(ValueError, match=rf"{one}: expected a finite number of at least 0, got -1"):
                getattr(side, name)(*inputs(name, {}), **{one: -1})
    with pytest.raises(TypeError, match="activation"):
        side.dice_ce(*inputs("dice_ce", {}), activation="softmax")
    with pytest.raises(ValueError, match="logits: expected at least 2 classes"):
        side.dice_ce(torch.zeros(1, 1, 4), torch.zeros(1, 4).long())


def test_recipes_take_them_where_they_fit() -> None:
    with pytest.raises(ValueError, match="loss dice_ce: expected activation softmax, since it is a loss over classes"):
        make_loss("dice_ce", steps=1)
    with pytest.raises(ValueError, match="loss dice_bce: expected activation sigmoid, got softmax, whose"):
        make_loss("dice_bce", steps=1, activation="softmax")
