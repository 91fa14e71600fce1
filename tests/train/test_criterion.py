"""Losses by name, called alike; each compared with the loss called by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("lightning")
pytest.importorskip("monai")

import rarepixel
from rarepixel import functional
from rarepixel._criterion import class_indices
from rarepixel.segments import segment_map
from rarepixel.train import LOSSES, Criterion, make_loss

SHAPE = (2, 1, 20, 24)


def scene(classes: int = 1, channels: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets of vessels, and a mask."""
    target = torch.zeros(2, classes, 20, 24, dtype=torch.bool)
    target[:, 0, 9:12, 2:22] = True
    if classes > 1:
        target[:, 1, 2:5, 3:9] = True
    mask = torch.ones(2, 1, 20, 24, dtype=torch.bool)
    mask[..., :4] = False
    logits = torch.randn(2, channels or classes, 20, 24, requires_grad=True)
    return logits, target, mask


def criterion(
    spec: Any, activation: str = "sigmoid", classes: tuple[str, ...] = ("vessel",), steps: int = 30
) -> Criterion:
    return Criterion(make_loss(spec, steps=steps, activation=activation), activation, classes)


def segments_of(target: Tensor, mask: Tensor) -> Tensor:
    return torch.stack([segment_map(one[0], mask=valid[0]).ids for one, valid in zip(target, mask, strict=True)])[
        :, None
    ]


SIGMOID = [name for name in functional.__all__ if name != "dice_ce"]
SOFTMAX = [name for name in functional.__all__ if name not in ("squared_error", "segment_thickness", "dice_bce")]


@pytest.mark.parametrize(
    "name", [*SIGMOID, "bce", "two_stage", "joint", {"deep_supervision": {"loss": "dice"}}], ids=str
)
def test_every_loss_trains_on_one_class(name: Any) -> None:
    logits, target, mask = scene()
    loss = criterion(name)
    value = loss(logits, target, mask, segments_of(target, mask))
    value.backward()
    assert value.dim() == 0
    assert bool(logits.grad[..., 4:].abs().sum() > 0)  # type: ignore[index]
    assert bool((logits.grad[..., :4] == 0).all())  # type: ignore[index]
    rarepixel.step(loss)


@pytest.mark.parametrize("name", [*SOFTMAX, "bce"])
def test_every_loss_with_a_softmax_trains_on_classes(name: str) -> None:
    logits, target, mask = scene(2, 3)
    value = criterion(name, "softmax", ("a", "b"))(logits, target, mask)
    value.backward()
    assert bool((logits.grad[..., :4] == 0).all())  # type: ignore[index]
    assert bool(logits.grad.abs().sum() > 0)  # type: ignore[union-attr]


def test_thickness_over_a_softmax_of_two() -> None:
    logits, target, mask = scene(1, 2)
    segments = segments_of(target, mask)
    value = criterion({"joint": {"pixel": "bce"}}, "softmax")((logits, logits), target, mask, segments)
    indices = class_indices(target)
    expected = functional.segment_thickness(
        logits, indices, segments[:, 0], mask=mask
    ) + functional.weighted_cross_entropy(logits, indices, activation="softmax", mask=mask)
    torch.testing.assert_close(value, expected)


def test_volumes() -> None:
    target = torch.zeros(1, 1, 6, 8, 8, dtype=torch.bool)
    target[..., 2:4, 3:5, 3:6] = True
    logits = torch.randn(1, 1, 6, 8, 8)
    mask = torch.ones_like(target)
    torch.testing.assert_close(criterion("dice")(logits, target, mask), functional.dice(logits, target))


def test_plain_cross_entropy() -> None:
    logits, target, mask = scene()
    inside = mask.expand_as(target)
    expected = torch.stack(
        [F.binary_cross_entropy_with_logits(x[m], y[m].float()) for x, y, m in zip(logits, target, inside, strict=True)]
    ).mean()
    torch.testing.assert_close(criterion("bce")(logits, target, mask), expected)
    logits, target, mask = scene(2, 3)
    labels = class_indices(target).where(mask[:, 0], -1)
    expected = torch.stack(
        [F.cross_entropy(x[None], y[None], ignore_index=-1) for x, y in zip(logits, labels, strict=True)]
    ).mean()
    torch.testing.assert_close(criterion("bce", "softmax", ("a", "b"))(logits, target, mask), expected)


def test_options_and_defaults() -> None:
    top_k = make_loss("top_k", steps=100)
    assert isinstance(top_k, rarepixel.TopKLoss)
    values = []
    for _ in range(100):
        values.append(top_k.schedule.value.item())
        top_k.step()
    assert values[0] == 0.14
    assert len(set(values)) == 10  # ten periods
    assert make_loss("top_k:k=0.05", steps=100).schedule.value.item() == 0.05  # type: ignore[union-attr]
    assert make_loss("top_k:0.05", steps=100).schedule.value.item() == 0.05  # type: ignore[union-attr]
    decay = {"top_k": {"k": {"cosine": {"initial": 0.2, "final": 0.1, "max_iterations": 4}}}}
    assert make_loss(decay, steps=100).schedule.value.item() == 0.2  # type: ignore[union-attr]
    two_stage = make_loss("two_stage", steps=30)
    assert isinstance(two_stage, rarepixel.TwoStage)
    assert two_stage.switch_at == 20
    assert isinstance(two_stage.first, rarepixel.TopKLoss)
    assert isinstance(two_stage.second, rarepixel.SquaredErrorLoss)
    assert make_loss("random_drop", steps=3, activation="softmax").activation == "softmax"
    assert make_loss("random_drop:activation=sigmoid", steps=3, activation="softmax").activation == "sigmoid"


def test_two_stages_change() -> None:
    logits, target, mask = scene()
    loss = criterion({"two_stage": {"first": "dice", "second": "squared_error", "switch_at": 2}})
    expected = [functional.dice, functional.dice, functional.squared_error]
    for function in expected:
        torch.testing.assert_close(loss(logits, target, mask), function(logits, target, mask=mask))  # type: ignore[operator]
        rarepixel.step(loss)


def test_side_outputs_add_up() -> None:
    logits, target, mask = scene()
    side = torch.randn_like(logits)
    loss = criterion("dice")
    both = functional.dice(logits, target, mask=mask) + functional.dice(side, target, mask=mask)
    torch.testing.assert_close(loss([logits, side], target, mask), both)
    torch.testing.assert_close(loss.main(logits, target, mask), functional.dice(logits, target, mask=mask))
    weighted = criterion({"deep_supervision": {"loss": "dice", "weights": [1, 0.5]}})
    expected = rarepixel.DeepSupervision(rarepixel.DiceLoss(), (1, 0.5))([logits, side], target, mask=mask)
    torch.testing.assert_close(weighted([logits, side], target, mask), expected)
    torch.testing.assert_close(weighted.main(logits, target, mask), functional.dice(logits, target, mask=mask))


def test_branches_of_classes_add_up() -> None:
    """Red-Seg's outputs: a list for each lesion, of any length."""
    _, target, mask = scene(2)
    outputs = {"b": [torch.randn(SHAPE)], "a": [torch.randn(SHAPE), torch.randn(SHAPE)]}
    value = criterion("dice", classes=("a", "b"))(outputs, target, mask)
    expected = sum(
        functional.dice(one, target[:, place : place + 1], mask=mask)
        for place, name in enumerate(("a", "b"))
        for one in outputs[name]
    )
    torch.testing.assert_close(value, expected)


def test_losses_of_others_get_their_format() -> None:
    logits, target, mask = scene()
    everything = torch.ones_like(mask)
    torch.testing.assert_close(
        criterion("torch.nn.BCEWithLogitsLoss")(logits, target, everything),
        F.binary_cross_entropy_with_logits(logits, target.float()),
    )
    dice = criterion("monai.losses.DiceLoss:sigmoid=true")
    from monai.losses import DiceCELoss, DiceLoss

    torch.testing.assert_close(dice(logits, target, everything), DiceLoss(sigmoid=True)(logits, target.float()))
    logits, target, _ = scene(2, 3)
    indices = class_indices(target)
    hot = F.one_hot(indices, 3).movedim(-1, 1).float()
    for spec, expected in (
        ("torch.nn.CrossEntropyLoss", F.cross_entropy(logits, indices)),
        ("monai.losses.DiceLoss:softmax=true", DiceLoss(softmax=True)(logits, hot)),
        (
            "monai.losses.DiceCELoss:softmax=true:to_onehot_y=true",
            DiceCELoss(softmax=True, to_onehot_y=True)(logits, indices[:, None]),
        ),
    ):
        torch.testing.assert_close(criterion(spec, "softmax", ("a", "b"))(logits, target, everything), expected)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_losses_of_others_do_not_see_what_is_masked(activation: str) -> None:
    logits, target, mask = scene(2, 2 + (activation == "softmax"))
    spec = {"sigmoid": "monai.losses.DiceCELoss:sigmoid=true", "softmax": "torch.nn.CrossEntropyLoss"}[activation]
    loss = criterion(spec, activation, ("a", "b"))
    value = loss(logits, target, mask)
    value.backward()
    assert bool((logits.grad[..., :4] == 0).all())  # type: ignore[index]
    other = torch.where(mask, logits, 100.0)
    torch.testing.assert_close(loss(other, target | ~mask, mask), value)


def test_the_pixel_loss_of_a_joint_one_may_be_anybodys() -> None:
    logits, target, mask = scene()
    loss = criterion({"joint": {"pixel": "torch.nn.BCEWithLogitsLoss"}})
    assert loss.needs_segments
    assert torch.isfinite(loss(logits, target, mask, segments_of(target, mask)))
    assert not criterion("dice").needs_segments


class Unreduced(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.sigmoid() - target) ** 2


def test_a_loss_by_import_path() -> None:
    logits, target, mask = scene()
    loss = criterion(f"{__name__}.Unreduced")
    everything = torch.ones_like(mask)
    torch.testing.assert_close(loss(logits, target, everything), ((logits.sigmoid() - target.float()) ** 2).mean())


@pytest.mark.parametrize(
    ("spec", "activation", "text"),
    [
        ("topk", "sigmoid", "got 'topk'; did you mean 'top_k'?"),
        ("top_k:kk=1", "sigmoid", "loss top_k: expected one of k, absent,"),
        ("random_drop:lgo", "sigmoid", "loss random_drop: schedule: expected one of"),
        ({"two_stage": {"first": "topk"}}, "sigmoid", "did you mean 'top_k'?"),
        ({"top_k": {"k": "linear"}}, "sigmoid", "k: expected one of constant, linear_decay, cosine"),
        ("two_stage", "softmax", "expected activation sigmoid, since the squared error has no softmax"),
        ("deep_supervision", "sigmoid", "loss deep_supervision: expected a value of loss"),
    ],
)
def test_what_cannot_be(spec: Any, activation: str, text: str) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011  # the text is looked at
        make_loss(spec, steps=10, activation=activation)
    assert text in str(found.value)


def test_thickness_needs_one_class() -> None:
    logits, target, mask = scene(2)
    with pytest.raises(ValueError, match="expected one class with segments for a thickness loss, got 2"):
        criterion("segment_thickness", classes=("a", "b"))(logits, target, mask, torch.zeros(2, 2, 20, 24).int())
    with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got 'collections.Counter'"):
        make_loss("collections.Counter", steps=1)


def test_all_losses_have_a_name() -> None:
    assert set(LOSSES) == {*functional.__all__, "bce", "two_stage", "joint", "deep_supervision"}


@pytest.mark.parametrize(
    ("spec", "activation"),
    [("random_drop", "sigmoid"), ("top_k:k=7", "sigmoid"), ("bin_loss", "sigmoid"), ("multi_channel_bin", "sigmoid"),
     ("top_k", "softmax"), ("multi_channel_bin", "softmax")],
)  # fmt: skip
def test_negatives_are_counted_in_the_same_pass(spec: str, activation: str) -> None:
    logits, target, mask = scene(classes=2, channels=3 if activation == "softmax" else 2)
    made = criterion(spec, activation, ("vessel", "spot"))
    torch.manual_seed(0)
    value = made(logits, target, mask)
    assert made.negatives is not None
    kept, negatives = made.negatives.tolist()
    # The loss by hand: the same value and the same pixels.
    made.loss.return_stats = True
    labels = made.labels(made.loss, target)
    torch.manual_seed(0)
    by_hand, stats = made.loss(logits, labels, mask=mask)
    assert torch.equal(value, by_hand)
    assert kept == stats.kept_negatives.sum()
    if spec.startswith("top_k:"):
        assert kept == 7 * 4  # images times channels
    of_channels = target if activation == "sigmoid" else torch.cat([~target.any(dim=1, keepdim=True), target], dim=1)
    if spec == "multi_channel_bin":
        of_channels = target  # without the background
    assert negatives == (~of_channels & mask).sum()
    assert 0 < kept < negatives


def test_negatives_of_side_outputs_and_stages() -> None:
    logits, target, mask = scene()
    made = criterion({"two_stage": {"first": "top_k:k=5", "switch_at": 1}})
    made([logits, logits], target, mask)
    assert made.negatives is not None
    assert made.negatives.tolist() == [2 * 2 * 5, 2 * int((~target & mask).sum())]
    made.step()
    made([logits, logits], target, mask)
    assert made.negatives is None  # the squared error drops none
    plain = criterion("bce")
    plain(logits, target, mask)
    assert plain.negatives is None


def test_a_loss_of_others_with_a_step_is_stepped() -> None:
    class Stepped(nn.MSELoss):
        steps = 0

        def step(self) -> None:
            self.steps += 1

    loss = Stepped()
    Criterion(loss, "sigmoid", ("vessel",)).step()
    assert loss.steps == 1
