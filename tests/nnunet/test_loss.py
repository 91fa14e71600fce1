"""What a trainer of nnU-Net's gets for a loss, with a stand-in for the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rarepixel
from rarepixel import functional
from rarepixel.nnunet import NnunetLoss, SquaredErrorPerPositive, nnunet_loss
from rarepixel.segments import segment_map

from .stand_in import CHANNELS, IGNORE, batch, gradients, trainer

SPECS = [
    *(
        "default",
        "random_drop",
        "top_k",
        "bin_loss",
        "multi_channel_bin",
        "two_stage",
        "unified_focal",
        "focal_tversky",
    ),
    *(["dice", "top_k"], ["dice", "random_drop"], ["default", "segment_thickness"]),
]
by_spec = pytest.mark.parametrize("spec", SPECS, ids=str)


def log_odds(logits: Tensor) -> Tensor:
    """Of each class but the background against the rest, written out."""
    probabilities = logits.softmax(dim=1)[:, 1:]
    return torch.log(probabilities) - torch.log1p(-probabilities)


@by_spec
@pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])
@pytest.mark.parametrize("batch_dice", [False, True], ids=["images", "batch"])
class TestEveryLoss:
    @pytest.fixture(autouse=True)
    def _leave_out(self, spec: Any, regions: bool) -> None:
        if regions and spec == "multi_channel_bin":
            pytest.skip("regions overlap")

    def test_what_is_ignored_counts_for_nothing(self, spec: Any, regions: bool, batch_dice: bool) -> None:
        of = trainer(regions=regions, ignore=True, batch_dice=batch_dice)
        outputs, targets = batch(of)
        loss = nnunet_loss(of, spec)
        torch.manual_seed(1)
        value = loss(outputs, targets)
        value.backward()
        wanted = gradients(outputs)
        others = [output.detach().clone() for output in outputs]
        for other, target, gradient in zip(others, targets, wanted, strict=True):
            ignored = target[:, -1:] == (1 if regions else IGNORE)
            assert ignored.any()
            if "segment_thickness" not in spec:  # it thins the prediction before it leaves pixels out
                other.masked_fill_(ignored, torch.nan)
            assert gradient is None or not gradient.masked_select(ignored).any()
            assert gradient is None or gradient.masked_select(~ignored).any()
            if regions:
                target[:, :-1].masked_fill_(ignored, True)
        assert wanted[-1] is None  # of weight 0
        torch.manual_seed(1)
        torch.testing.assert_close(loss(others, targets), value)

    def test_without_deep_supervision(self, spec: Any, regions: bool, batch_dice: bool) -> None:
        of = trainer(regions=regions, batch_dice=batch_dice, levels=0)
        (logits,), (target,) = batch(of)
        loss = nnunet_loss(of, spec)
        torch.manual_seed(1)
        value = loss(logits, target)
        torch.manual_seed(1)
        torch.testing.assert_close(loss([logits], [target]), value)

    def test_half_and_int_and_float_targets(self, spec: Any, regions: bool, batch_dice: bool) -> None:
        of = trainer(regions=regions, ignore=True, batch_dice=batch_dice)
        outputs, targets = batch(of)
        loss = nnunet_loss(of, spec)
        torch.manual_seed(1)
        value = loss([output.detach().half().double() for output in outputs], targets)
        for dtype in (torch.uint8, torch.float32):
            torch.manual_seed(1)
            half = [output.detach().half() for output in outputs]
            found = loss(half, [target.to(dtype) for target in targets])
            torch.testing.assert_close(found, value.float(), rtol=1e-3, atol=1e-3)


class TestOneVersusRest:
    @pytest.mark.parametrize("balance", ["channel", "class"])
    def test_top_k(self, balance: str) -> None:
        of = trainer(batch_dice=balance == "class", levels=0)
        (logits,), (target,) = batch(of)
        value = nnunet_loss(of, "top_k:k=0.3")(logits, target)
        labels = target == torch.arange(1, CHANNELS).view(1, -1, 1, 1)
        expected = functional.top_k(log_odds(logits), labels, k=0.3, balance=balance, absent="count")
        torch.testing.assert_close(value, expected)
        wanted, found = (torch.autograd.grad(one, logits)[0] for one in (expected, value))
        torch.testing.assert_close(found, wanted)

    def test_it_is_the_softmax_form_without_the_background(self) -> None:
        of = trainer(batch_dice=False, ignore=True, levels=0)
        (logits,), (target,) = batch(of)
        value = nnunet_loss(of, rarepixel.BinLoss(key=2))(logits, target)
        options = {"activation": "softmax", "ignore_index": IGNORE, "reduction": "none", "key": 2}
        torch.testing.assert_close(value, functional.bin_loss(logits, target, **options)[:, 1:].mean())

    def test_a_softmax_of_ones_own_is_left_alone(self) -> None:
        of = trainer(levels=0)
        (logits,), (target,) = batch(of)
        value = nnunet_loss(of, rarepixel.TopKLoss(0.3, activation="softmax"))(logits, target)
        torch.testing.assert_close(value, functional.top_k(logits, target, k=0.3, activation="softmax"))

    @pytest.mark.parametrize("balance", ["channel", "class"])
    def test_squared_error(self, balance: str) -> None:
        of = trainer(batch_dice=balance == "class", levels=0)
        (logits,), (target,) = batch(of)
        labels = target == torch.arange(1, CHANNELS).view(1, -1, 1, 1)
        expected = functional.squared_error(log_odds(logits), labels, balance=balance)
        torch.testing.assert_close(nnunet_loss(of, "squared_error")(logits, target), expected)
        second = nnunet_loss(of, {"two_stage": {"second": "squared_error", "switch_at": 1}})
        second.step()
        torch.testing.assert_close(second(logits, target), expected)

    def test_thickness(self) -> None:
        of = trainer(levels=0, ignore=True)
        (logits,), (target,) = batch(of)
        mask = target != IGNORE
        expected = []
        for place in range(CHANNELS - 1):
            vessel, scores = target == place + 1, log_odds(logits)[:, place : place + 1]
            segments = segment_map(vessel, mask=mask)
            expected.append(functional.segment_thickness(scores, vessel, segments, mask=mask))
        value = nnunet_loss(of, "segment_thickness")(logits, target)
        torch.testing.assert_close(value, torch.stack(expected).mean())

    def test_labels_that_are_no_class(self) -> None:
        of = trainer(levels=0)
        (logits,), (target,) = batch(of)
        target[0, 0, 3, 4] = 7
        for spec in ("default", "top_k", "two_stage"):
            with pytest.raises(ValueError, match=r"expected a class index from 0 to 2.*got 7"):
                nnunet_loss(of, spec)(logits, target)


def test_multi_channel_bin_sees_log_odds_and_no_background() -> None:
    of = trainer(levels=0)
    (logits,), (target,) = batch(of)
    value = nnunet_loss(of, "multi_channel_bin")(logits, target)
    torch.testing.assert_close(value, functional.multi_channel_bin(log_odds(logits), target, absent="count"))
    (slopes,) = torch.autograd.grad(value, logits)
    assert slopes[:, 0].any()  # nnU-Net's masks are where the softmax is largest


@pytest.mark.parametrize("spec", ["random_drop", "top_k", "bin_loss", "multi_channel_bin"])
@pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])
def test_false_alarms_cost_something_in_patches_without_a_class(spec: str, regions: bool) -> None:
    if regions and spec == "multi_channel_bin":
        pytest.skip("regions overlap")
    of = trainer(regions=regions, levels=0, batch_dice=False)
    (logits,), (target,) = batch(of)
    nnunet_loss(of, spec)(logits, torch.zeros_like(target)).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 1:].amax(dim=(2, 3)) > 0).all()


class TestSquaredErrorPerPositive:
    def test_by_hand(self) -> None:
        logits = torch.zeros(2, 1, 4, dtype=torch.float64, requires_grad=True)
        target = torch.tensor([[[1, 0, 0, 0]], [[0, 0, 0, 0]]])
        value = SquaredErrorPerPositive()(logits, target)
        assert value.item() == pytest.approx((4 * 0.25 / 2 + 0.25) / 2, abs=0)
        value.backward()
        # 2 (p - y) p (1 - p), over twice the positives or over the pixels, and the mean of two
        assert logits.grad is not None
        assert logits.grad.flatten().tolist() == pytest.approx([-0.0625, *[0.0625] * 3, *[0.03125] * 4])

    def test_it_is_what_two_stage_ends_with(self) -> None:
        of = trainer(levels=0, epochs=3)
        (logits,), (target,) = batch(of)
        loss = nnunet_loss(of, "two_stage")
        loss.iteration = 10  # of 15 two thirds
        labels = target == torch.arange(1, CHANNELS).view(1, -1, 1, 1)
        errors = (labels.double() - log_odds(logits).sigmoid()).square()
        expected = errors.sum(dim=(0, 2, 3)) / (2 * labels.sum(dim=(0, 2, 3)))
        torch.testing.assert_close(loss(logits, target), expected.mean())


class TestDeepSupervision:
    def test_weights(self) -> None:
        of = trainer(levels=4)
        outputs, targets = batch(of)
        loss, single = nnunet_loss(of, "default"), nnunet_loss(trainer(levels=0), "default")
        values = [single(output, target) for output, target in zip(outputs, targets, strict=True)]
        expected = sum(weight * value for weight, value in zip((4 / 7, 2 / 7, 1 / 7), values[:3], strict=True))
        torch.testing.assert_close(loss(outputs, targets), expected)

    def test_under_ddp_the_smallest_output_has_a_gradient(self) -> None:
        of = trainer(is_ddp=True, batch_dice=False)
        outputs, targets = batch(of)
        nnunet_loss(of, "default")(outputs, targets).backward()
        assert outputs[-1].grad is not None
        assert 0 < outputs[-1].grad.abs().max() < 1e-6

    def test_one_level(self) -> None:
        """Where nnU-Net's weights are 0 / 0."""
        of = trainer(levels=1)
        outputs, targets = batch(of)
        assert nnunet_loss(of, "default")(outputs, targets).isfinite()

    def test_small_lesions_vanish_or_stay(self) -> None:
        of = trainer(levels=3, ignore=True)
        outputs = [torch.zeros(1, CHANNELS, 16 >> level, 16 >> level, requires_grad=True) for level in range(3)]
        largest = torch.zeros(1, 1, 16, 16, dtype=torch.int16)
        largest[..., 5, 7] = 2
        largest[..., :2, :2] = IGNORE
        targets = [largest, *(largest[..., :: 1 << level, :: 1 << level] for level in (1, 2))]
        for any_pixel, there in ((False, 0), (True, 1)):
            loss = nnunet_loss(of, "top_k", any_pixel_targets=any_pixel)
            slopes = torch.autograd.grad(loss(outputs, targets), outputs[1])[0][0]
            assert (slopes[2] < 0).sum() == there
            assert bool(slopes[2, 2, 3] < 0) == any_pixel
            assert not slopes[:, 0, 0].any()

    def test_thickness_is_compared_at_full_size(self) -> None:
        of, single = trainer(levels=3), trainer(levels=0)
        outputs, targets = batch(of)
        value = nnunet_loss(of, ["default", "segment_thickness"])(outputs, targets)
        thickness = nnunet_loss(single, "segment_thickness")(outputs[0], targets[0])
        torch.testing.assert_close(value, nnunet_loss(of, "default")(outputs, targets) + thickness)


class TestOthersLosses:
    def test_without_a_mask(self) -> None:
        of = trainer(levels=0)
        (logits,), (target,) = batch(of)
        for spec in (nn.CrossEntropyLoss(), "torch.nn.CrossEntropyLoss"):
            value = nnunet_loss(of, spec)(logits, target)
            torch.testing.assert_close(value, F.cross_entropy(logits, target[:, 0].long()))

    def test_regions(self) -> None:
        of = trainer(levels=0, regions=True)
        (logits,), (target,) = batch(of)
        value = nnunet_loss(of, nn.BCEWithLogitsLoss())(logits, target)
        torch.testing.assert_close(value, F.binary_cross_entropy_with_logits(logits, target.double()))

    def test_with_a_mask(self) -> None:
        class Masked(nn.Module):
            def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
                assert target.shape == (2, 1, 16, 16)
                return logits.mean() * mask.sum()

        of = trainer(levels=0, ignore=True)
        (logits,), (target,) = batch(of)
        value = nnunet_loss(of, Masked())(logits, target)
        torch.testing.assert_close(value, logits.mean() * (target != IGNORE).sum())


class Stepped(nn.Module):
    """A loss of somebody's that changes as training goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def step(self) -> None:
        self.steps += 1

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.mean() - target.mean()) * self.steps


class TestModulesWithAStateOfTheirOwn:
    @pytest.mark.parametrize("others", [[], ["default"]], ids=["alone", "with another"])
    def test_they_are_stepped(self, others: list[str]) -> None:
        one = Stepped()
        loss = nnunet_loss(trainer(), [one, *others])
        loss.step()
        loss.step()
        assert one.steps == 2

    def test_they_go_where_the_network_is(self) -> None:
        """To which nnU-Net moves no loss."""
        one = Stepped()
        nnunet_loss(trainer(device="meta"), one)
        assert one.steps.is_meta

    def test_their_state_lies_beside_a_checkpoint(self, tmp_path: Path) -> None:
        before, after = (nnunet_loss(trainer(), ["top_k", Stepped()]) for _ in range(2))
        for _ in range(3):
            before.step()
        before.save_beside(tmp_path / "checkpoint_latest.pth", 1)
        assert "goes on at iteration 3" in after.resume(tmp_path / "checkpoint_latest.pth", 1, 5)
        assert str(after.state_dict()) == str(before.state_dict())

    def test_a_trainer_that_does_not_step(self) -> None:
        of = trainer(kind=type("Mine", (type(trainer()).__base__,), {}), levels=0)
        with pytest.raises(TypeError, match=r"training goes on \(Stepped\), got Mine"):
            nnunet_loss(of, Stepped())

    def test_parameters_that_nobody_trains(self) -> None:
        class Weighted(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.share = nn.Parameter(torch.ones(()))

            def forward(self, logits: Tensor, target: Tensor) -> Tensor:
                return (logits.mean() - target.mean()) * self.share

        of, loss = trainer(levels=0), Weighted()
        with pytest.raises(ValueError, match=r"optimizer has those of the network alone, got loss\.share"):
            nnunet_loss(of, loss)
        of.optimizer.param_groups[0]["params"].append(loss.share)
        assert isinstance(nnunet_loss(of, loss), NnunetLoss)
        assert isinstance(nnunet_loss(trainer(levels=0), loss.requires_grad_(False)), NnunetLoss)


class TestSchedules:
    def test_decays_span_the_training(self) -> None:
        of = trainer(epochs=10)  # of five iterations
        loss = nnunet_loss(of, ["top_k", "two_stage"])
        top_k, two_stage = loss.at_all_sizes.loss.loss.parts
        assert (top_k.schedule.max_iterations, top_k.schedule.period) == (50, 5)
        assert two_stage.switch_at == two_stage.first.schedule.max_iterations == 33

    def test_derived_is_stepped(self) -> None:
        of = trainer()
        stepped, derived = (nnunet_loss(of, ["top_k", "two_stage"]) for _ in range(2))
        for _ in range(37):
            stepped.step()
        derived.iteration = 37
        assert str(stepped) == str(derived)
        assert stepped.state_dict() == derived.state_dict()

    def test_calls_do_not_step(self) -> None:
        of = trainer()
        loss = nnunet_loss(of, "top_k")
        loss(*batch(of))
        assert loss.iteration == 0

    def test_a_trainer_that_does_not_step(self) -> None:
        class nnUNetTrainerMine(trainer().__class__.__base__):  # type: ignore[misc]  # noqa: N801
            pass

        of = trainer(kind=nnUNetTrainerMine, levels=0)
        for spec in ("default", "top_k:k=0.1", "random_drop", rarepixel.TopKLoss(0.1)):
            assert isinstance(nnunet_loss(of, spec), NnunetLoss)
        with pytest.raises(
            TypeError, match=r"trainer: expected a rarepixel.nnunet.RarePixelTrainer.*LinearDecay.*Mine"
        ):
            nnunet_loss(of, "top_k")


class TestRefused:
    @pytest.mark.parametrize(
        ("spec", "options", "message"),
        [
            ("top_q", {}, "did you mean 'top_k'"),
            ([], {}, "expected at least one, got an empty list"),
            (3, {}, "expected a name or a mapping"),
            ("multi_channel_bin", {"regions": True}, "expected a data set with labels for MultiChannelBinLoss"),
            (rarepixel.DiceCELoss(), {"regions": True}, "one over sigmoids for regions, got DiceCELoss"),
            (
                rarepixel.DiceLoss(activation="softmax"),
                {"regions": True},
                "one over sigmoids for regions, got DiceLoss",
            ),
            (rarepixel.DiceBCELoss(), {}, "one over a softmax for labels, got DiceBCELoss"),
            (rarepixel.MultiChannelBinLoss(background=0), {}, "expected MultiChannelBinLoss without background"),
            (rarepixel.DeepSupervision(rarepixel.BinLoss()), {}, "expected a loss of one output"),
            (
                ["default", "segment_thickness"],
                {"dimensions": 3},
                "expected a 2d configuration.* patches of 16 x 16 x 16",
            ),
            ("segment_thickness", {}, "add 'default' to it, or set enable_deep_supervision = False"),
        ],
        ids=str,
    )
    def test_when_built(self, spec: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            nnunet_loss(trainer(**options), spec)

    @pytest.mark.parametrize("options", [{"reduction": "none"}, {"return_stats": True}], ids=str)
    def test_when_called(self, options: dict[str, Any]) -> None:
        of = trainer()
        with pytest.raises(ValueError, match="loss: expected one value of BinLoss"):
            nnunet_loss(of, rarepixel.BinLoss(**options))(*batch(of))


def test_it_prints_itself() -> None:
    shown = str(nnunet_loss(trainer(), ["default", "segment_thickness"]))
    assert "iteration=0" in shown
    assert "DiceCELoss" in shown
    assert "SegmentThicknessLoss" in shown
