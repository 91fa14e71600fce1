"""The segment-level loss and a pixel-wise loss together: sums, turns, two heads, state, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rarepixel
from rarepixel import JointLoss
from rarepixel.segments import SegmentMap, segment_map


def inputs() -> tuple[Tensor, Tensor, SegmentMap]:
    vessel = torch.zeros(2, 1, 16, 24)
    vessel[..., 7:10, 2:22] = 1
    return 2 * torch.randn(2, 1, 16, 24, dtype=torch.float64), vessel, segment_map(vessel)


def losses() -> tuple[nn.Module, nn.Module]:
    return rarepixel.SegmentThicknessLoss(), rarepixel.RandomDropLoss(schedule="linear")


class OfLogits(nn.Module):
    """A pixel loss whose value names the head it was given."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.sum() + 0 * target.sum()


def test_sum_of_one_head() -> None:
    logits, target, found = inputs()
    joint = JointLoss(rarepixel.SegmentThicknessLoss(), OfLogits(), ratio=0.25)
    segment = rarepixel.functional.segment_thickness(logits, target, found)
    torch.testing.assert_close(joint(logits, target, found), 0.25 * segment + logits.sum())


def test_derivatives_of_every_kind() -> None:
    logits, target, found = inputs()
    joint = JointLoss(rarepixel.SegmentThicknessLoss(), rarepixel.DiceLoss(), ratio=0.25)
    gradient = torch.func.grad(joint)(logits, target, found)
    change = torch.randn_like(logits)
    _, tangent = torch.func.jvp(lambda x: joint(x, target, found), (logits,), (change,))
    torch.testing.assert_close(tangent, (gradient * change).sum())
    leaf = logits.clone().requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(joint(leaf, target, found), leaf)[0])

    def loss(x: Tensor, y: Tensor, ids: Tensor) -> Tensor:
        value: Tensor = joint(x[None], y[None], ids)
        return value

    of_samples = torch.vmap(torch.func.grad(loss))(logits, target, found.ids)
    expected = [torch.func.grad(loss)(logits[n], target[n], found.ids[n]) for n in range(2)]
    torch.testing.assert_close(of_samples, torch.stack(expected))


def test_a_loss_that_weighs_nothing_does_not_matter() -> None:
    logits, target, found = inputs()
    wrong = torch.where(target == 1, -torch.inf, logits)
    assert rarepixel.SegmentThicknessLoss()(wrong, target, found) == torch.inf
    joint = JointLoss(rarepixel.SegmentThicknessLoss(), OfLogits(), ratio=0)
    assert torch.equal(joint((wrong, logits), target, found), logits.sum())


def test_each_head_has_its_loss() -> None:
    logits, target, found = inputs()
    heads = (logits.clone().requires_grad_(), (2 * logits).requires_grad_())
    joint = JointLoss(rarepixel.SegmentThicknessLoss(), OfLogits())
    loss = joint(heads, target, found)
    segment = rarepixel.functional.segment_thickness(logits, target, found)
    torch.testing.assert_close(loss, segment + (2 * logits).sum())
    of_segment, of_pixel = torch.autograd.grad(loss, heads)
    assert torch.equal(of_pixel, torch.ones_like(of_pixel))
    assert 0 < of_segment.abs().sum() < 10


def test_mask_and_weight_go_to_both() -> None:
    logits, target, found = inputs()
    mask = torch.ones(16, 24, dtype=torch.bool)
    mask[:, 12:] = False
    segment, pixel = rarepixel.SegmentThicknessLoss(), rarepixel.SquaredErrorLoss()
    expected = segment(logits, target, found, mask) + pixel(logits, target, mask)
    assert torch.equal(JointLoss(segment, pixel)(logits, target, found, mask), expected)
    weight = torch.rand(16, 24)
    expected = segment(logits, target, found, weight=weight) + pixel(logits, target, weight=weight)
    assert torch.equal(JointLoss(segment, pixel)(logits, target, found, weight=weight), expected)


class Recorder(nn.Module):
    """Remembers what it was called with, and how often it was stepped."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.steps = 0

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        self.calls.append((*arguments, options))
        return torch.zeros(())

    def step(self) -> None:
        self.steps += 1


def test_in_turns_each_loss_gets_its_head_the_mask_and_its_steps() -> None:
    segment, pixel = Recorder(), Recorder()
    joint = JointLoss(segment, pixel, ratio=2, alternate=True)
    for _ in range(3):
        joint(("of segment", "of pixel"), "target", "segments", "mask")  # type: ignore[arg-type]
        joint.step()
    assert pixel.calls == [("of pixel", "target", {"mask": "mask"})]
    assert segment.calls == 2 * [("of segment", "target", "segments", {"mask": "mask"})]
    assert (segment.steps, pixel.steps) == (2, 1)
    both = JointLoss(segment, pixel)
    both.step()
    assert (segment.steps, pixel.steps) == (3, 2)


@pytest.mark.parametrize(
    ("ratio", "turns"),
    [(1, "pspspspsps"), (2, "psspsspssp"), (0.5, "ppsppsppsp"), (0, "pppppppppp"), (1 / 3, "pppspppspp")],
)
def test_turns(ratio: float, turns: str) -> None:
    logits, target, found = inputs()
    joint = JointLoss(rarepixel.SegmentThicknessLoss(), OfLogits(), ratio, alternate=True)
    segment = rarepixel.functional.segment_thickness(logits, target, found)
    for iteration, turn in enumerate(turns):
        assert joint.iteration == iteration
        expected = segment if turn == "s" else logits.sum()
        assert torch.equal(joint(logits, target, found), expected), iteration
        joint.step()


def test_steps_the_losses_that_are_in_use() -> None:
    def top_k() -> rarepixel.TopKLoss:
        return rarepixel.TopKLoss(rarepixel.schedules.LinearDecay(0.5, max_iterations=10, period=1))

    both = JointLoss(rarepixel.SegmentThicknessLoss(), top_k())
    in_turns = JointLoss(rarepixel.SegmentThicknessLoss(), top_k(), alternate=True)
    for joint, expected in ((both, 4), (in_turns, 2)):
        for _ in range(4):
            joint.step()
        assert joint.pixel.schedule.iteration == expected  # type: ignore[union-attr]


def test_resumes_from_a_checkpoint(tmp_path: Any) -> None:
    logits, target, found = inputs()
    joint = JointLoss(*losses(), alternate=True)
    joint.step()
    torch.save(joint.state_dict(), tmp_path / "state.pt")
    resumed = JointLoss(*losses(), alternate=True)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert resumed.iteration == 1
    segment = rarepixel.functional.segment_thickness(logits, target, found)
    assert torch.equal(resumed(logits, target, found), segment)
    assert "ratio=1.0, alternate=True, iteration=1" in repr(resumed)
    assert "alternate" not in repr(JointLoss(*losses()))


def test_compiles_without_graph_breaks() -> None:
    torch.compiler.reset()
    logits, target, found = inputs()
    joint = JointLoss(rarepixel.SegmentThicknessLoss(), nn.BCEWithLogitsLoss(), alternate=True)
    compiled = torch.compile(joint, fullgraph=True, backend="aot_eager")
    target = target.double()
    for _ in range(3):
        torch.testing.assert_close(compiled(logits, target, found), joint(logits, target, found))
        joint.step()
    both = JointLoss(rarepixel.SegmentThicknessLoss(), nn.BCEWithLogitsLoss(), 0.5)
    expected = 0.5 * rarepixel.functional.segment_thickness(logits, target, found)
    expected = expected + F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(
        torch.compile(both, fullgraph=True, backend="aot_eager")(logits, target, found), expected
    )


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((F.mse_loss, nn.MSELoss()), TypeError, r"segment: expected a torch\.nn\.Module, got function"),
        ((nn.MSELoss(), None), TypeError, r"pixel: expected a torch\.nn\.Module, got NoneType"),
        ((nn.MSELoss(), nn.MSELoss(), "1"), TypeError, "ratio: expected a number, got '1'"),
        ((nn.MSELoss(), nn.MSELoss(), -1), ValueError, "ratio: expected a finite number of at least 0, got -1"),
        ((nn.MSELoss(), nn.MSELoss(), torch.inf), ValueError, "ratio: expected a finite number of at least 0, got inf"),
    ],
)
def test_errors(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        JointLoss(*arguments)


@pytest.mark.parametrize(("logits", "got"), [((1, 2, 3), "3 of them"), (None, "NoneType"), ("xy", "str")])
def test_logits_are_one_or_a_pair(logits: Any, got: str) -> None:
    _, target, found = inputs()
    with pytest.raises(TypeError, match=f"logits: expected a tensor or a pair, .* got {got}"):
        JointLoss(*losses())(logits, target, found)


def test_losses_of_many_values_are_refused() -> None:
    segment, pixel = rarepixel.SegmentThicknessLoss(reduction="none"), rarepixel.SquaredErrorLoss(reduction="none")
    for name, joint in (
        ("segment", JointLoss(segment, nn.BCEWithLogitsLoss())),
        ("pixel", JointLoss(losses()[0], pixel)),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected a loss of one value, .* got values of shape \\(2"):
            joint(inputs()[0], inputs()[1].double(), inputs()[2])


def test_losses_that_return_statistics_are_refused() -> None:
    joint = JointLoss(rarepixel.SegmentThicknessLoss(return_stats=True), nn.BCEWithLogitsLoss())
    with pytest.raises(TypeError, match="segment: expected a loss that returns a tensor, got tuple; no return_stats"):
        joint(*inputs())
