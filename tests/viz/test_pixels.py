"""Pixel maps: gradients against autograd, losses of pixels against the losses' own terms, shares, files, errors."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("matplotlib")

from rarepixel import losses, viz
from rarepixel.segments import segment_map
from rarepixel.viz import _attribution as attribution
from rarepixel.viz import _pixel_panels as panels

HEIGHT, WIDTH = 24, 32
SUMS = ("bce", "focal", "squared_error", "random_drop", "top_k:k=0.1", "bin_loss", "multi_channel_bin")
OTHERS = ("dice", "tversky", "focal_tversky", "combo", "unified_focal", "generalized_dice", "hybrid_focal")


@pytest.fixture(scope="module")
def target() -> Tensor:
    found = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    found[4:7, 5:9] = True
    found[15, 20] = True  # a lesion of one pixel
    return found


@pytest.fixture(scope="module")
def logits(target: Tensor) -> Tensor:
    noise = torch.randn(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return -2 + 2.5 * target + 1.5 * noise


@pytest.fixture(scope="module")
def mask() -> Tensor:
    found = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    found[:, -4:] = False
    return found


@pytest.fixture(scope="module")
def maps(logits: Tensor, target: Tensor, mask: Tensor) -> viz.PixelMaps:
    return viz.pixels(logits, None, target, [*SUMS, *OTHERS], mask=mask, seed=3)


def batched(tensor: Tensor) -> Tensor:
    return tensor.reshape(1, 1, HEIGHT, WIDTH)


# ---- Gradients ------------------------------------------------------------------------------------------------------


def test_gradients_are_autograds(maps: viz.PixelMaps, logits: Tensor, target: Tensor, mask: Tensor) -> None:
    modules: dict[str, nn.Module] = {
        "bce": losses.WeightedCrossEntropyLoss(),
        "top_k:k=0.1": losses.TopKLoss(0.1),
        "random_drop": losses.RandomDropLoss(),
        "dice": losses.DiceLoss(),
        "focal_tversky": losses.FocalTverskyLoss(),
    }
    for name, module in modules.items():
        leaf = batched(logits).clone().requires_grad_()
        torch.manual_seed(3)
        value = module(leaf, batched(target), mask=batched(mask))
        value.backward()
        assert maps.values[name] == value.item()
        assert leaf.grad is not None
        np.testing.assert_array_equal(maps.gradients[name], leaf.grad[0, 0].numpy())


def test_binary_cross_entropy_pulls_by_hand(maps: viz.PixelMaps, logits: Tensor, target: Tensor, mask: Tensor) -> None:
    by_hand = torch.where(mask, logits[0].sigmoid() - target.double(), 0) / mask.sum()
    np.testing.assert_allclose(maps.gradients["bce"], by_hand.numpy(), rtol=1e-12, atol=0)
    np.testing.assert_array_equal(maps.pull("bce", relative=False), -maps.gradients["bce"])
    pull = maps.pull("bce")
    assert (pull[target.numpy()] > 0).all()  # a lesion is pulled up
    assert (pull[(mask & ~target).numpy()] < 0).all()
    assert np.abs(pull).sum() == pytest.approx(int(mask.sum()), rel=1e-12)  # 1 is an even share
    np.testing.assert_array_equal(maps.difference("bce"), 0)
    np.testing.assert_allclose(maps.difference("focal"), maps.pull("focal") - pull)


def test_softmax_gradients_are_those_of_the_classes_own_logit() -> None:
    scores = torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.randint(0, 3, (HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2))
    leaf = scores[None].clone().requires_grad_()
    F.cross_entropy(leaf, labels[None]).backward()
    assert leaf.grad is not None
    terms = F.cross_entropy(scores[None], labels[None], reduction="none")[0] / labels.numel()
    for channel in (0, 1):
        found = viz.pixels(
            scores, None, labels, {"ours": "bce", "theirs": nn.CrossEntropyLoss(), "focal": "focal"},
            activation="softmax", channel=channel,
        )  # fmt: skip
        for name in ("ours", "theirs"):
            np.testing.assert_allclose(found.gradients[name], leaf.grad[0, channel + 1].numpy(), rtol=1e-9, atol=1e-18)
            np.testing.assert_allclose(found.losses[name], terms.numpy(), rtol=2e-4, atol=1e-9)
        assert found.nodes["ours"] == 0 < found.nodes["theirs"]
        np.testing.assert_array_equal(found.target, (labels == channel + 1).numpy())
        probability = scores.softmax(dim=0)[channel + 1]
        np.testing.assert_allclose(found.probability, probability.numpy())
        np.testing.assert_allclose(found.confidence, torch.where(labels == channel + 1, probability, 1 - probability))


# ---- Losses of pixels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUMS)
def test_sums_over_pixels_are_their_own_terms(
    maps: viz.PixelMaps, logits: Tensor, target: Tensor, mask: Tensor, name: str
) -> None:
    assert maps.nodes[name] == maps.baselines[name] == 0
    assert maps.losses[name].sum() == pytest.approx(maps.values[name], rel=1e-12)
    module = viz._losses.criteria(name)[name].loss
    summed = copy.copy(module)
    summed.reduction = "pixel"  # type: ignore[assignment]
    torch.manual_seed(3)
    terms = summed(batched(logits), batched(target).long().reshape(1, 1, HEIGHT, WIDTH) if name != "multi_channel_bin"
                   else target[None].long(), mask=batched(mask))[0, 0]  # fmt: skip
    scale = maps.values[name] / float(terms.sum())
    np.testing.assert_allclose(maps.losses[name], terms.numpy() * scale, rtol=1e-12)
    assert (maps.losses[name][~maps.selected[name]] == 0).all()


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_shared_out_whole(maps: viz.PixelMaps, name: str) -> None:
    assert maps.nodes[name] > 0
    wanted = maps.values[name] - maps.baselines[name]
    assert abs(maps.losses[name].sum() - wanted) <= 1e-4 * wanted
    assert maps.residuals[name] <= 1e-4
    assert maps.baselines[name] < 1e-3 * maps.values[name]
    assert (maps.losses[name][~maps.mask] == 0).all()


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (losses.WeightedCrossEntropyLoss(reduction="sum"), F.binary_cross_entropy_with_logits),
        (losses.FocalLoss(), None),
    ],
)
def test_the_integral_is_a_pixels_own_term_where_there_is_one(
    logits: Tensor, target: Tensor, module: nn.Module, function: Any
) -> None:
    def called(scores: Tensor, labels: Tensor) -> Tensor:
        return module(scores, labels.bool())  # type: ignore[no-any-return]

    found = viz.pixels(logits, None, target, {"terms": module, "integral": called})
    assert found.nodes["terms"] == 0 < found.nodes["integral"]
    size = np.abs(found.losses["terms"]).max()
    np.testing.assert_allclose(found.losses["integral"], found.losses["terms"], rtol=1e-4, atol=1e-5 * size)
    if function is not None:
        terms = function(logits, target[None].double(), reduction="none")[0] / target.numel()
        np.testing.assert_allclose(found.losses["terms"], terms.numpy(), rtol=1e-12)


@pytest.mark.parametrize("balance", ["channel", "image", "batch", "class"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_channels_add_up_under_any_reduction(balance: str, reduction: str) -> None:
    scores = torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(4))
    labels = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5)) < 0.1
    labels[2] = False  # a class that is not there
    given = {
        "mean": losses.FocalLoss(balance=balance, reduction=reduction),
        "ours": losses.TopKLoss(0.1, balance=balance, reduction=reduction),
        "skipped": losses.TopKLoss(0.1, balance=balance, reduction=reduction, absent="skip"),
        "overlap": losses.DiceLoss(balance=balance, reduction=reduction),
    }
    channels = [viz.pixels(scores, None, labels, given, channel=channel) for channel in range(3)]
    for name in given:
        whole = sum(one.losses[name].sum() for one in channels)
        wanted = channels[0].values[name] - channels[0].baselines[name]
        assert whole == pytest.approx(wanted, rel=1e-4 if name == "overlap" else 1e-10)
    if (balance, reduction) == ("channel", "mean"):  # each channel has its own part of the mean
        parts = losses.TopKLoss(0.1, reduction="none")(scores[None].double(), labels[None])[0] / 3
        for one, part in zip(channels, parts.tolist(), strict=True):
            assert one.losses["ours"].sum() == pytest.approx(part, rel=1e-10)


def test_what_jumps_says_how_far_it_is_off(logits: Tensor, target: Tensor) -> None:
    def wrong(scores: Tensor, labels: Tensor) -> Tensor:
        return ((scores > 0) != labels.bool()).double().mean() + 0.01 * scores.square().mean()

    found = viz.pixels(logits, None, target, wrong)
    assert found.nodes["wrong"] == attribution.NODES[-1]
    assert found.residuals["wrong"] > 1e-3
    off = abs(found.losses["wrong"].sum() - (found.values["wrong"] - found.baselines["wrong"]))
    assert found.residuals["wrong"] == pytest.approx(off / abs(found.values["wrong"] - found.baselines["wrong"]))
    assert "it jumps" in panels.how_found(found, "wrong")
    assert any("it jumps" in text.get_text() for text in found.figure().texts)


def test_losses_of_pixels_can_be_left_out(maps: viz.PixelMaps, logits: Tensor, target: Tensor, mask: Tensor) -> None:
    found = viz.pixels(logits, None, target, ["bce", "dice"], mask=mask, attribution=False)
    assert found.losses == found.nodes == {}
    np.testing.assert_array_equal(found.gradients["dice"], maps.gradients["dice"])
    assert found.values["dice"] == maps.values["dice"]
    assert panels.kinds_of(found) == ["pull", "difference"]
    assert "What does each pixel cost?" not in {text.get_text() for text in found.figure().texts}
    assert 'name="view" value="loss"' not in viz._pixel_page.page(found)


def test_dropped_pixels_are_those_of_the_seed(logits: Tensor, target: Tensor) -> None:
    state = torch.get_rng_state()
    one, same, other = (viz.pixels(logits, None, target, "random_drop", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone
    np.testing.assert_array_equal(one.selected["random_drop"], same.selected["random_drop"])
    assert (one.selected["random_drop"] != other.selected["random_drop"]).any()
    assert one.dropped("random_drop") > 0
    assert one.selected["random_drop"][target.numpy()].all()
    _, stats = losses.RandomDropLoss(return_stats=True)(batched(logits), batched(target), seed=None)
    assert 0 < stats.kept_negatives.item() < target.numel()


def test_top_k_selects_the_hardest(maps: viz.PixelMaps, logits: Tensor, target: Tensor, mask: Tensor) -> None:
    negatives = mask & ~target
    kept = maps.selected["top_k:k=0.1"] & negatives.numpy()
    assert kept.sum() == round(0.1 * int(negatives.sum()))
    threshold = logits[0].numpy()[kept].min()
    assert (logits[0].numpy()[negatives.numpy() & ~kept] <= threshold).all()
    assert maps.selected["bce"].sum() == int(mask.sum())
    assert maps.dropped("top_k:k=0.1") == int(mask.sum()) - int((mask & target).sum()) - kept.sum()


def test_two_stages_are_the_loss_of_the_stage(logits: Tensor, target: Tensor) -> None:
    staged = losses.TwoStage(losses.TopKLoss(0.1), losses.SquaredErrorLoss(), switch_at=5)
    given = {"staged": staged, "deep": losses.DeepSupervision(losses.DiceLoss(), weights=(0.5, 1.0))}
    alone = viz.pixels(logits, None, target, ["top_k:k=0.1", "squared_error", "dice"])
    before = viz.pixels(logits, None, target, given)
    staged.iteration = 5
    after = viz.pixels(logits, None, target, given)
    for found, name in ((before, "top_k:k=0.1"), (after, "squared_error")):
        np.testing.assert_array_equal(found.gradients["staged"], alone.gradients[name])
        np.testing.assert_array_equal(found.losses["staged"], alone.losses[name])
    np.testing.assert_array_equal(after.gradients["deep"], alone.gradients["dice"])


def test_losses_of_segments(logits: Tensor) -> None:
    vessel = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    vessel[10:13, 3:29] = True
    found = viz.pixels(logits, None, vessel, ["segment_thickness", "joint"], seed=1)
    leaf = batched(logits).clone().requires_grad_()
    losses.SegmentThicknessLoss()(leaf, batched(vessel), segment_map(vessel).ids[None]).backward()
    assert leaf.grad is not None
    np.testing.assert_array_equal(found.gradients["segment_thickness"], leaf.grad[0, 0].numpy())


# ---- Shares ---------------------------------------------------------------------------------------------------------


def test_shares_add_up_and_are_counted_by_hand(maps: viz.PixelMaps, target: Tensor, mask: Tensor) -> None:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    near = torch.zeros_like(target)
    for row, column in target.nonzero().tolist():
        near |= ((rows - row).abs() <= 3) & ((columns - column).abs() <= 3)
    rim = near & ~target & mask
    np.testing.assert_array_equal(maps.rims, rim.numpy())
    regions = {"lesion": target & mask, "rim": rim, "background": mask & ~near}
    for name in maps.loss_names:
        assert math.fsum(maps.shares[name].values()) == pytest.approx(1, abs=1e-12)
        total = np.abs(maps.gradients[name]).sum()
        for region, pixels in regions.items():
            here = maps.gradients[name][pixels.numpy()]
            assert maps.shares[name][region] == pytest.approx(np.abs(here).sum() / total)
            assert maps.pulls[name][region] == pytest.approx(-here.sum() / total)
    assert maps.pulls["bce"]["lesion"] > 0 > maps.pulls["bce"]["background"]
    assert maps.counts == {region: int(pixels.sum()) for region, pixels in regions.items()}
    assert math.fsum(maps.areas.values()) == pytest.approx(1)
    assert viz.pixels(torch.zeros(1, HEIGHT, WIDTH), None, target, "bce", rim=0).counts["rim"] == 0


def test_confidence_is_the_probability_of_what_is_true(maps: viz.PixelMaps, logits: Tensor, target: Tensor) -> None:
    probability = logits[0].sigmoid()
    np.testing.assert_allclose(maps.confidence, torch.where(target, probability, 1 - probability).numpy(), rtol=1e-12)


def test_class_weights_of_others_are_as_the_logits_are(target: Tensor) -> None:
    """What the user gave stays in float32."""
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
    scores = torch.randn(2, HEIGHT, WIDTH, dtype=torch.float64, requires_grad=True)
    found = viz.pixels(scores, None, target, loss, activation="softmax")
    value = nn.functional.cross_entropy(scores[None], target[None].long(), loss.weight.double())
    (expected,) = torch.autograd.grad(value, scores)
    np.testing.assert_allclose(found.gradients["CrossEntropyLoss"], expected[1].numpy(), atol=1e-15)
    assert loss.weight.dtype == torch.float32


def test_names_of_callables(logits: Tensor, target: Tensor) -> None:
    losses = [functools.partial(nn.functional.soft_margin_loss, reduction="sum"), nn.BCEWithLogitsLoss().forward]
    assert viz.pixels(logits, None, target, losses).loss_names == ("soft_margin_loss", "forward")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-315, math.inf])
def test_gradients_of_any_size_are_drawn(target: Tensor, size: float) -> None:
    """Next to nothing is nothing, and infinity has no shares."""
    found = viz.pixels(torch.ones(1, HEIGHT, WIDTH), None, target, {"mine": lambda scores, _: (scores * size).sum()})
    assert found.figure().axes
    assert size < 1 or math.isnan(found.shares["mine"]["lesion"])
    assert size > 1 or not found.pull("mine").any()


def test_no_gradient_has_no_shares(logits: Tensor) -> None:
    def broken(scores: Tensor, _: Tensor) -> Tensor:
        return (scores * 0).sqrt().mean()

    empty = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    found = viz.pixels(logits, None, empty, ["top_k:k=0.1", "bce", broken])
    assert math.isnan(found.shares["top_k:k=0.1"]["background"])
    assert found.shares["bce"] == {"lesion": 0, "rim": 0, "background": 1}
    assert panels.no_shares(found, "top_k:k=0.1") == "no pixel has a gradient"
    assert panels.no_shares(found, "broken") == "its gradient is NaN"
    assert panels.no_shares(found, "bce") == ""
    texts = {text.get_text() for text in found.figure().texts}
    assert {"no pixel has a gradient", "its gradient is NaN"} <= texts


# ---- Networks and inputs --------------------------------------------------------------------------------------------


class Several(nn.Module):
    """A network whose answer is made into several, and that has a dropout."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
        self.drop = nn.Dropout(0.9)
        self.frozen = nn.BatchNorm2d(3).eval()
        self.wrap = wrap

    def forward(self, image: Tensor) -> Any:
        return self.wrap(self.drop(self.layer(self.frozen(image))))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits,
        lambda logits: [logits, logits[..., ::2, ::2]],
        lambda logits: ({"main": logits}, 1),
        lambda logits: {"out": logits, "aux": logits + 1},
    ],
)
def test_networks_answer_as_in_evaluation_and_are_left_as_they_were(target: Tensor, wrap: Any) -> None:
    network = Several(wrap)
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    found = viz.pixels(network, image, target, "bce")
    assert network.training
    assert network.drop.training
    assert not network.frozen.training
    direct = network.layer(network.frozen(image[None]))[0].detach()
    np.testing.assert_allclose(found.probability, direct[0].double().sigmoid().numpy())
    assert found.photo is not None
    assert found.photo.shape == (HEIGHT, WIDTH, 3)
    assert found.photo.min() == 0
    assert found.photo.max() == 1


def test_a_network_says_itself_which_logits_are_its_own(target: Tensor) -> None:
    network = Several(lambda logits: (logits, logits + 1))
    network.logits = lambda outputs: outputs[1]
    image = torch.rand(3, HEIGHT, WIDTH)
    direct = network.layer(network.frozen(image[None]))[0].detach() + 1
    assert np.allclose(viz.pixels(network, image, target, "bce").probability, direct[0].double().sigmoid())


def test_a_volume_is_drawn_by_the_plane_with_the_most_target() -> None:
    target = torch.zeros(5, 16, 20, dtype=torch.bool)
    target[1, 3, 3] = target[3, 5:8, 5:8] = True
    found = viz.pixels(torch.zeros(1, 5, 16, 20), torch.rand(1, 5, 16, 20), target, ["bce", "dice"], rim=1)
    assert found.plane == 3
    assert found.gradients["bce"].shape == (5, 16, 20)
    assert found.rims[2, 4:9, 4:9].all()  # above and below, too
    assert found.figure().texts


def test_shapes_of_logits_and_labels(logits: Tensor, target: Tensor) -> None:
    wanted = viz.pixels(logits, None, target, "bce").gradients["bce"]
    for given, labels in ((logits[None], target), (logits, target[None]), (logits, target.to(torch.uint8)),
                          (logits, target.double())):  # fmt: skip
        np.testing.assert_array_equal(viz.pixels(given, None, labels, "bce").gradients["bce"], wanted)
    hidden = logits.clone()
    hidden[0, 0, 0] = math.nan
    seen = torch.ones(HEIGHT, WIDTH)
    seen[0, 0] = 0
    assert np.isfinite(viz.pixels(hidden, None, target, "bce", mask=seen).gradients["bce"]).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"losses": []}, ValueError, "losses: expected at least one"),
        ({"losses": {"mine": lambda scores, labels: scores @ labels}}, ValueError, "'mine' fails on float64"),
        ({"losses": {"mine": lambda scores, _: scores.detach().mean()}}, ValueError, "'mine'.*is it detached"),
        ({"losses": {"mine": lambda _, __: 3.0}}, ValueError, "'mine'.*expected <lambda> to return a tensor"),
        ({"losses": nn.BCEWithLogitsLoss}, TypeError, r"got the class BCEWithLogitsLoss: BCEWithLogitsLoss\(\) makes"),
        ({"target": torch.zeros(3, 3)}, ValueError, "target: expected shape"),
        ({"target": torch.full((HEIGHT, WIDTH), 2)}, ValueError, "target: expected labels 0 and 1, got 2"),
        ({"target": torch.zeros(2, HEIGHT, WIDTH)}, ValueError, r"target: expected shape \(1, 24, 32\)"),
        ({"target": None}, TypeError, "target: expected a torch.Tensor"),
        ({"mask": torch.ones(3, 3)}, ValueError, "mask: expected shape"),
        ({"mask": torch.zeros(HEIGHT, WIDTH)}, ValueError, "mask: expected pixels that count"),
        ({"channel": 1}, ValueError, "channel: expected 0 to 0"),
        ({"rim": -1}, ValueError, "rim: expected"),
        ({"activation": "relu"}, ValueError, "activation: expected"),
        ({"activation": "softmax"}, ValueError, "logits: expected a channel for the background"),
        ({"model_or_logits": "net"}, TypeError, "model_or_logits: expected a torch.nn.Module"),
        ({"model_or_logits": nn.Identity()}, ValueError, "image: expected what the network takes"),
        (
            {"model_or_logits": nn.Conv2d(3, 1, 1), "image": torch.rand(1, HEIGHT, WIDTH)}, ValueError,
            r"model_or_logits: Conv2d fails on image\[None\] of shape \(1, 1, 24, 32\)",
        ),
        ({"model_or_logits": nn.AvgPool2d(2), "image": torch.rand(1, HEIGHT, WIDTH)}, ValueError, "target: expected"),
        ({"model_or_logits": nn.Flatten(), "image": torch.rand(1, HEIGHT, WIDTH)}, ValueError, "to make logits of"),
        ({"model_or_logits": torch.zeros(1, 8), "target": torch.zeros(8)}, ValueError, "an image or a volume"),
        ({"model_or_logits": torch.zeros(1, HEIGHT, WIDTH).long()}, TypeError, "logits: expected floating"),
        ({"photo": torch.full((3, HEIGHT, WIDTH), 2.0)}, ValueError, "photo: expected numbers from 0 to 1"),
        ({"photo": torch.rand(2, HEIGHT, WIDTH)}, ValueError, "photo: expected shape"),
        ({"image": torch.rand(1, 3, 3)}, ValueError, "target: expected shape"),
    ],
)  # fmt: skip
def test_errors_say_what_was_expected(
    logits: Tensor, target: Tensor, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    given = {"model_or_logits": logits, "image": None, "target": target, "losses": "bce", **change}
    with pytest.raises(error, match=words):
        viz.pixels(**given)


def test_logits_that_are_no_numbers_are_found(logits: Tensor, target: Tensor) -> None:
    wrong = logits.clone()
    wrong[0, 3, 5] = wrong[0, 4, 5] = math.nan
    with pytest.raises(ValueError, match=r"got nan in channel 0 at pixel \(3, 5\), and 2 of such numbers in all"):
        viz.pixels(wrong, None, target, "bce")


def test_a_perfect_prediction_is_where_the_path_begins(target: Tensor) -> None:
    two = torch.stack([target, target.roll(3, 0)])[None]
    scene = attribution.Scene(torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.float64), two, batched(target), None, 0)
    start = attribution.perfect_logits(scene, "softmax")
    assert ((start == 20).sum(dim=1) == 1).all()
    assert torch.equal(start[0].argmax(dim=0), torch.where(two[0, 1], 2, torch.where(two[0, 0], 1, 0)))


# ---- Pictures -------------------------------------------------------------------------------------------------------


def test_files(logits: Tensor, target: Tensor, tmp_path: Path) -> None:
    maps = viz.pixels(logits, None, target, ["bce", "dice"], title="A title")
    for kind in ("png", "svg", "pdf"):
        assert maps.save(tmp_path / f"maps.{kind}").stat().st_size > 10_000
    with np.load(maps.save(tmp_path / "maps.npz")) as found:
        assert tuple(found["names"]) == maps.loss_names
        place = list(maps.loss_names).index("dice")
        np.testing.assert_array_equal(found["gradients"][place], maps.gradients["dice"])
        np.testing.assert_array_equal(found["losses"][place], maps.losses["dice"])
        assert found["shares"][place, 0] == maps.shares["dice"]["lesion"]
    with pytest.raises(ValueError, match="html, npz"):
        maps.save(tmp_path / "maps.gif")


def test_a_single_pixel_of_a_large_image_is_seen() -> None:
    target = torch.zeros(700, 650, dtype=torch.bool)
    target[601, 77] = True
    found = viz.pixels(torch.full((1, 700, 650), -3.0), None, target, {"one": "bce", "two": "focal"})
    assert found.target[found.cut].sum() == 1
    assert found.target[found.cut].shape == (256, 256)
    view, scales = panels.View.of(found, 300, whole=True), panels.Scales.of([found])
    assert max(view.size) <= 300
    painted = viz._pixel_figure.paint(view, scales, "pull", "one").astype(int)
    blue = painted[..., 2] - painted[..., 0] > 20
    assert np.argwhere(blue).tolist() == [[601 // view.step, 77 // view.step]]


def test_one_scale_is_of_all_losses(maps: viz.PixelMaps) -> None:
    scales = panels.Scales.of([maps])
    assert scales.pull.largest == max(np.abs(maps.pull(name)).max() for name in maps.loss_names)
    levels = scales.pull.levels(
        np.array([[-scales.pull.largest, 0, scales.pull.largest, np.nan]]), np.ones((1, 4), bool)
    )
    assert levels.tolist() == [[0, 125, 250, 255]]
    raw = panels.Scales.of([maps], relative=False)
    assert raw.pull.largest == max(np.abs(maps.gradients[name]).max() for name in maps.loss_names)


def test_outlines_run_along_the_edges_of_pixels() -> None:
    pixels = np.zeros((4, 5), dtype=bool)
    pixels[1, 1:3] = pixels[2, 2] = True
    lines = {tuple(map(tuple, line)) for line in panels.edges(pixels).astype(int).tolist()}
    assert lines == {
        ((1, 1), (3, 1)), ((1, 2), (2, 2)), ((2, 3), (3, 3)), ((1, 1), (1, 2)), ((2, 2), (2, 3)), ((3, 1), (3, 3)),
    }  # fmt: skip
