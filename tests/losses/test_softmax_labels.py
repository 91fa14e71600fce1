"""The Unified Focal family over a softmax: labels in all forms, and errors of options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from tests.conftest import assert_close
from tests.losses.contract import both_sides
from tests.losses.family import SOFTMAX, by_softmax_member, for_member, softmax_inputs
from tests.samples.one_hot import one_hot


@both_sides
@by_softmax_member
def test_labels_in_all_forms_say_the_same(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    device: torch.device,
) -> None:
    logits, target = softmax_inputs((2, 4, 9, 11), torch.float32, device)
    how = for_member(name, {**SOFTMAX, **options, "background": 1})

    def run(labels: Tensor, **more: Any) -> tuple[Tensor, ...]:
        x = logits.clone().requires_grad_()
        loss, stats = getattr(side, name)(x, labels, return_stats=True, reduction="none", **how, **more)
        return loss, torch.autograd.grad(loss.sum(), x)[0], *stats

    expected = run(target)
    for labels in (target.unsqueeze(1), one_hot(target, 4), one_hot(target, 4).double(), target.to(torch.bfloat16)):
        assert all(map(torch.equal, run(labels), expected))
    assert all(map(torch.equal, run(target, balance="image"), expected))
    for found, of_index_map in zip(run(one_hot(target, 4).float(), soft_labels=True), expected, strict=True):
        assert_close(found, of_index_map, torch.float32)


@both_sides
def test_soft_labels_may_be_rounded(side: Any) -> None:
    logits = torch.randn(1, 3, 4, 4)
    labels = torch.full_like(logits, 1 / 3)
    exact = side.unified_focal(logits, labels, soft_labels=True, **SOFTMAX)
    for share in (1 / 3 - 0.003, 1 / 3 + 0.003):  # sums of 0.991 and 1.009
        loss = side.unified_focal(logits, torch.full_like(labels, share), soft_labels=True, **SOFTMAX)
        assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    for share in (1 / 3 - 0.004, 1 / 3 + 0.004):
        with pytest.raises(ValueError, match="labels that sum to 1"):
            side.unified_focal(logits, torch.full_like(labels, share), soft_labels=True, **SOFTMAX)


@both_sides
@pytest.mark.parametrize("name", ["unified_focal", "dice", "tversky", "generalized_dice", "weighted_cross_entropy"])
def test_nan_logit_makes_the_loss_of_any_labels_nan(side: Any, name: str, device: torch.device) -> None:
    options = {"positive_weight": 0.0} if name == "weighted_cross_entropy" else {}  # also where nothing weighs
    for label in range(3):
        for spoilt in range(3):
            x = torch.zeros(2, 3, 4, 4, device=device)
            y = torch.zeros(2, 4, 4, dtype=torch.int64, device=device)
            y[:, 0, 0], y[1, 3, 3] = 1, label
            x[1, spoilt, 3, 3] = torch.nan
            for labels, soft in ((y, False), (one_hot(y, 3).float(), True)):
                how = {**SOFTMAX, **options, "soft_labels": soft}
                values = getattr(side, name)(x, labels, reduction="none", **how)
                assert values.isnan().tolist() == [False, True]


# ---- Pixels that do not count ---------------------------------------------------------------------------------------

# The labels of one pixel of three classes (of an index map the first alone is taken), and whether they are an error.
PIXELS: list[tuple[str, tuple[float, ...], bool]] = [
    ("one_hot", (0, 255, 0), False),  # ignored in one class: the others need not make a whole
    ("one_hot", (1, 255, 1), False),
    ("one_hot", (255, 255, 255), False),
    ("one_hot", (255, 3, 0), True),  # ignored in one class and nonsense in another
    ("one_hot", (3, 0, 255), True),
    ("soft", (255, 0.25, 0.25), False),
    ("soft", (255, 255, 255), False),
    ("soft", (255, 1.5, 0), True),
    ("soft", (-0.5, 0.5, 255), True),
    ("soft", (torch.nan, 0, 255), True),
    ("index", (255,), False),
    ("index", (3,), True),
]


@both_sides
@pytest.mark.parametrize(("kind", "labels", "wrong"), PIXELS)
def test_what_is_wrong_beside_an_ignored_label_is_seen_but_not_under_the_mask(
    side: Any, kind: str, labels: tuple[float, ...], wrong: bool, device: torch.device
) -> None:
    logits, index_map = softmax_inputs((2, 3, 5, 7), torch.float32, device)
    target = index_map.unsqueeze(1).float() if kind == "index" else one_hot(index_map, 3).float()
    target[1, :, 2, 3] = torch.tensor(labels, device=device)
    mask = torch.ones(2, 1, 5, 7, dtype=torch.bool, device=device)
    mask[1, :, 2, 3] = False
    options = {"ignore_index": 255, "soft_labels": kind == "soft", **SOFTMAX}

    def run(labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        x = logits.clone().requires_grad_()
        loss = side.unified_focal(x, labels, mask=mask, **options)
        return loss, torch.autograd.grad(loss, x)[0]

    without = run(torch.where(mask, target, 0), mask)
    assert all(map(torch.equal, run(target, mask), without))
    if not wrong:
        assert all(map(torch.equal, run(target, None), without))
    elif device.type == "cpu":
        with pytest.raises(ValueError, match=r"target: expected .* or ignore_index=255.* \(invalid on 1 pixel\)"):
            run(target, None)
    else:
        loss, gradient = run(target, None)
        assert loss.isnan()
        assert side is reference or gradient[1, :, 2, 3].isnan().all()


@both_sides
def test_a_label_is_not_ignored_because_its_type_would_wrap(side: Any) -> None:
    target = torch.zeros(1, 3, 4, dtype=torch.uint8)
    target[0, 1, 2] = 255  # -1 in eight bits
    with pytest.raises(ValueError, match=r"target: expected 0, 1 or ignore_index=-1.* got 255"):
        side.unified_focal(torch.zeros(1, 3, 4), target, ignore_index=-1)
    with pytest.raises(ValueError, match=r"target: expected a class index .* got 255"):
        side.unified_focal(torch.zeros(1, 3, 4), target[:, 1], ignore_index=-1, **SOFTMAX)


# ---- Errors ---------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8, 9)
INDICES = torch.zeros(2, 8, 9, dtype=torch.int64)

ERRORS: list[Any] = [
    # What the channels are
    ((X, INDICES), {"background": 3}, ValueError, "background: expected a class from 0 to 2, got 3"),
    ((X, INDICES), {"background": -1}, ValueError, "background: expected a class from 0 on, got -1"),
    ((X, INDICES), {"background": True}, TypeError, "background: expected an int, got True"),
    ((X, INDICES), {"background": 1.0}, TypeError, r"background: expected an int, got 1\.0"),
    ((X, X), {"activation": "sigmoid", "background": 1}, ValueError,
     "background: expected 0, its default, with activation='sigmoid', got 1"),
    ((X, INDICES), {"activation": "tanh"}, ValueError, "activation: expected one of 'sigmoid', 'softmax', got 'tanh'"),
    ((X, INDICES), {"soft_labels": "no"}, TypeError, "soft_labels: expected a bool, got 'no'"),
    ((X, INDICES), {"process_group": "gloo"}, TypeError,
     r"process_group: expected a torch\.distributed\.ProcessGroup or None, got str"),
]  # fmt: skip


@both_sides
@pytest.mark.parametrize(("inputs", "options", "error", "text"), ERRORS, ids=[e[3][:50] for e in ERRORS])
def test_errors(side: Any, inputs: tuple[Any, Any], options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        side.unified_focal(*inputs, **{**SOFTMAX, **options})


@both_sides
@pytest.mark.parametrize(
    ("weights", "options", "error", "text"),
    [
        (torch.ones(2), {}, ValueError, r"class_weights: expected shape \(3,\), got \(2,\)"),
        (torch.ones(1, 3), {}, ValueError, r"class_weights: expected shape \(C,\), got \(1, 3\)"),
        (torch.tensor([1, -1, 1.0]), {}, ValueError, "class_weights: expected finite numbers of at least 0, got -1.0"),
        (torch.tensor([1, 1, torch.nan]), {}, ValueError, "class_weights: expected finite numbers .* got nan"),
        (torch.ones(3, requires_grad=True), {}, ValueError, "class_weights: expected a constant"),
        (torch.ones(3) + 0j, {}, TypeError, "class_weights: expected dtype float32, .* got complex64"),
        ("123", {}, TypeError, r"class_weights: expected a torch\.Tensor or a sequence of numbers, got str"),
        (torch.ones(3).to("meta"), {}, ValueError, "class_weights: expected the device of logits cpu, got meta"),
    ],
)
def test_errors_of_class_weights(side: Any, weights: Any, options: dict[str, Any], error: type, text: str) -> None:
    target = X if options else INDICES
    with pytest.raises(error, match=text):
        side.weighted_cross_entropy(X, target, class_weights=weights, **{**SOFTMAX, **options})


@both_sides
def test_class_weights_under_transforms(side: Any) -> None:
    def loss(weights: Tensor) -> Any:
        return side.weighted_cross_entropy(X, INDICES, class_weights=weights, **SOFTMAX)

    weights = torch.tensor([[1.0, 2, 3], [0.5, 0, 1]])
    torch.testing.assert_close(torch.vmap(loss)(weights), torch.stack([*map(loss, weights)]))
    with pytest.raises(ValueError, match="class_weights: expected a constant"):
        torch.func.jvp(loss, (weights[0],), (weights[1],))
    with pytest.raises(ValueError, match=r"class_weights: expected finite numbers of at least 0, got -1\.0"):
        torch.vmap(loss)(-weights)


@both_sides
def test_a_group_of_processes_needs_the_batch_as_a_region(side: Any) -> None:
    group = torch.distributed.ProcessGroup(0, 1)
    for balance in ("channel", "image"):
        with pytest.raises(
            ValueError, match=f"balance: expected 'batch' or 'class' with a process_group, got '{balance}'"
        ):
            side.dice(X, INDICES, process_group=group, balance=balance, **SOFTMAX)


def test_generalized_dice_knows_no_background() -> None:
    with pytest.raises(TypeError, match="background"):
        functional.generalized_dice(X, INDICES, background=0, **SOFTMAX)


@by_softmax_member
def test_modules_check_their_options_when_they_are_made(name: str, module: Any, options: dict[str, Any]) -> None:
    group = torch.distributed.ProcessGroup(0, 1)
    errors: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"activation": "tanh"}, ValueError, "activation: expected one of 'sigmoid', 'softmax', got 'tanh'"),
        ({"process_group": "gloo"}, TypeError, "process_group: expected a .* got str"),
        (
            {"process_group": group},
            ValueError,
            "balance: expected 'batch' or 'class' with a process_group, got 'channel'",
        ),
        ({"balance": "pixel"}, ValueError, "balance: expected one of"),
        ({"reduction": "avg"}, ValueError, "reduction: expected one of"),
        ({"background": 1}, ValueError, "background: expected 0, its default, with activation='sigmoid', got 1"),
        ({"background": -1, **SOFTMAX}, ValueError, "background: expected a class from 0 on, got -1"),
        ({"background": 1.5, **SOFTMAX}, TypeError, r"background: expected an int, got 1\.5"),
    ]
    for wrong, error, text in errors:
        if for_member(name, wrong) == wrong:
            with pytest.raises(error, match=text):
                module(**{**options, **wrong})


@pytest.mark.parametrize(
    "options",
    [{"background": None}, {"background": False}, {"soft_labels": "no"}, {"activation": "softmax", "background": -1}],
    ids=str,
)
def test_modules_refuse_their_options_when_they_are_made(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{[*options][-1]}: expected"):
        rarepixel.DiceLoss(**options)
