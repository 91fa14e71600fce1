"""The Unified Focal family over a softmax: its classes, their order and weights, memory, limits."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import rarepixel
from rarepixel import functional
from tests.losses.contract import both_sides, native
from tests.losses.family import SOFTMAX, by_softmax_member, for_member, softmax_inputs, value_and_gradient


@both_sides
@by_softmax_member
def test_order_of_the_classes_does_not_matter(
    side: Any,
    name: str,
    module: Any,  # noqa: ARG001
    options: dict[str, Any],
    device: torch.device,
) -> None:
    logits, target = softmax_inputs((2, 4, 9, 11), device=device)
    order = torch.tensor([2, 3, 1, 0], device=device)  # class order[k] becomes class k
    place = order.argsort()
    function = getattr(side, name)
    for background in (0, 2):
        how = for_member(name, {**SOFTMAX, **options, "background": background})
        moved = for_member(name, {**how, "background": int(place[background])})
        if name == "weighted_cross_entropy":
            how["class_weights"] = torch.tensor([1.0, 2.0, 0.5, 3.0], device=device)
            moved["class_weights"] = how["class_weights"][order]
        loss, gradient = value_and_gradient(function, logits[:, order], place[target], **moved)
        expected, slope = value_and_gradient(function, logits, target, **how)
        torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(gradient, slope[:, order], rtol=1e-10, atol=1e-15)


@both_sides
def test_a_batch_is_one_image_of_all_pixels(side: Any, device: torch.device) -> None:
    logits, target = softmax_inputs((3, 4, 9, 11), device=device)
    one_image = side.unified_focal(logits.movedim(0, 1).flatten(1, 2)[None], target.flatten(0, 1)[None], **SOFTMAX)
    batch = side.unified_focal(logits, target, balance="batch", **SOFTMAX)
    torch.testing.assert_close(batch, one_image, rtol=1e-13, atol=0)


def test_module_takes_class_weights(device: torch.device) -> None:
    logits, target = softmax_inputs((2, 3, 9, 11), torch.float32, device)
    mask = torch.ones(9, 11, dtype=torch.bool, device=device)
    mask[4] = False
    weights = torch.tensor([1.0, 2.0, 0.25], device=device)
    how = {**SOFTMAX, "class_weights": weights, "reduction": "none", "return_stats": True}
    loss, stats = rarepixel.WeightedCrossEntropyLoss(**how)(logits, target, mask)
    expected, expected_stats = functional.weighted_cross_entropy(logits, target, mask=mask, **how)
    assert torch.equal(loss, expected)
    assert all(map(torch.equal, stats, expected_stats))


def test_class_weights_keep_their_values() -> None:
    weights = torch.tensor([0.14, 1.0, 70_000.0])  # none of which float16 holds
    criterion = rarepixel.WeightedCrossEntropyLoss(activation="softmax", class_weights=weights)
    assert [*criterion.state_dict()] == []  # an option, not a state
    assert [*criterion.parameters()] == []
    logits, target = softmax_inputs((2, 3, 9, 11))
    expected = criterion(logits, target)
    torch.testing.assert_close(criterion.half()(logits, target), expected, rtol=0, atol=0)
    assert criterion.to("meta").class_weights.device.type == "meta"
    copies = (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion)))
    for kept in (criterion, *copies, criterion.to_empty(device="cpu")):
        assert torch.equal(kept(logits, target), expected)
    assert torch.equal(criterion.class_weights, weights.double())
    criterion.class_weights = 2 * weights
    assert torch.equal(criterion(logits, target), functional.weighted_cross_entropy(
        logits, target, **SOFTMAX, class_weights=2 * weights
    ))  # fmt: skip
    with torch.device("meta"), pytest.raises(ValueError, match="class_weights: expected numbers, got a tensor on meta"):
        rarepixel.WeightedCrossEntropyLoss(activation="softmax", class_weights=torch.tensor([1.0, 2.0, 3.0]))


@native
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_takes_no_memory_but_the_gradient() -> None:
    """The most memory that a process has held, which knows of all there is, on volumes of 98 MB."""
    code = """
import re
from pathlib import Path
import torch
from rarepixel import functional

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

def measure(x, y, **options):
    x.requires_grad_()
    before = peak()
    loss = functional.unified_focal(x, y, **options)
    after = peak()
    loss.backward()
    print(after - before, peak() - after)

x = torch.empty(2, 3, 160, 160, 160)
x.normal_()
maps = torch.zeros(2, 160, 160, 160, dtype=torch.uint8)
maps[:, 40:60] = 1
labels = torch.zeros(2, 3, 160, 160, 160, dtype=torch.bool)
labels[:, :, 50:70] = True
for small in (True, False):
    for target, options in ((maps, {"activation": "softmax"}), (labels, {})):
        if small:
            measure(x[..., :8, :8].clone(), target[..., :8, :8].clone(), **options)
        else:
            x.grad = None
            measure(x, target, **options)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    lines = [[float(number) for number in line.split()] for line in result.stdout.splitlines()]
    assert len(lines) == 4, result.stderr
    gradient = 4 * 2 * 3 * 160**3 / 2**20
    assert lines[2] == [pytest.approx(0, abs=3), pytest.approx(gradient, abs=3)]
    assert lines[3] == [pytest.approx(0, abs=3), pytest.approx(0, abs=3)]  # in the room of the first gradient


# ---- Limits ---------------------------------------------------------------------------------------------------------


@both_sides
def test_classes_ruled_out_by_infinity(side: Any, device: torch.device) -> None:
    logits = torch.tensor([[[2.0], [-torch.inf]], [[1.0], [-torch.inf]]], device=device, requires_grad=True)
    target = torch.zeros(2, 1, dtype=torch.int64, device=device)
    for name in ("weighted_cross_entropy", "focal", "unified_focal", "dice"):
        loss = getattr(side, name)(logits, target, **SOFTMAX)
        assert torch.isfinite(loss)
        assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-6


@both_sides
def test_an_exponent_of_0_makes_the_region_part_a_constant(side: Any, device: torch.device) -> None:
    for margin in (1.0, 100.0, 1000.0):  # of which the last leaves no error at all
        logits = torch.tensor([[[margin], [-margin]]], device=device, requires_grad=True)
        loss = side.unified_focal(
            logits,
            torch.zeros(1, 1, dtype=torch.int64, device=device),
            weight=1.0,
            gamma=1.0,
            asymmetric=False,
            **SOFTMAX,
        )
        assert loss.item() == 1
        assert (torch.autograd.grad(loss, logits)[0] == 0).all()


@both_sides
def test_a_class_with_next_to_no_pixels(side: Any, device: torch.device) -> None:
    logits = torch.zeros(1, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    labels = torch.tensor([[1.0], [1e-170], [0.0]], dtype=torch.float64, device=device).expand(1, 3, 4)
    loss = side.generalized_dice(logits, labels, **SOFTMAX, soft_labels=True)
    assert loss.item() == pytest.approx(0.5)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


@native
def test_threads_with_small_stacks() -> None:
    found = []

    def work() -> None:
        logits = torch.zeros(1, 254, 8, dtype=torch.float64, requires_grad=True)
        functional.dice(logits, torch.zeros(1, 8, dtype=torch.int64), **SOFTMAX).backward()
        found.append(logits.grad)

    before = threading.stack_size(192 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found[0] is not None
