"""Loss and gradient of a pixel by its logit: against hand-computed numbers, autograd and means over many seeds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("matplotlib")

import rarepixel
from rarepixel import functional, viz
from rarepixel.viz._expected_drop import ExpectedDrop, drop_probability
from rarepixel.viz._population import HALF_TRAINED, Logistic, Measured, Population
from rarepixel.viz._profile import GRID
from rarepixel.viz._profile_formulas import PARAMETERS, formula_of, usual_parameters

P = 1 / (1 + np.exp(-GRID))
Q = 1 / (1 + np.exp(GRID))


# ---- Curves against formulas ----


def test_the_mean_cross_entropy_has_the_gradient_p_minus_y_and_the_weight_1() -> None:
    found = viz.profile("bce").losses["bce"]
    np.testing.assert_allclose(found.gradient, [P, -Q], rtol=1e-10)
    np.testing.assert_allclose(found.weight, 1, rtol=1e-10)
    softplus = np.logaddexp(0, GRID)
    np.testing.assert_allclose(found.loss[0], softplus - softplus[0], atol=1e-9)
    np.testing.assert_allclose(found.loss[1], softplus[::-1] - softplus[0], atol=1e-9)
    assert found.dropped is None
    assert found.threshold is None
    assert found.kept == 1


def test_the_weight_of_positives_is_theirs() -> None:
    found = viz.profile("bce:positive_weight=7").losses["bce:positive_weight=7"]
    np.testing.assert_allclose(found.weight[0], 1, rtol=1e-10)
    np.testing.assert_allclose(found.weight[1], 7, rtol=1e-10)


def test_focal() -> None:
    found = viz.profile("focal:alpha=0.25:gamma=2").losses["focal:alpha=0.25:gamma=2"]
    # d/dz of -(1 - p)^2 log p is (1 - p)^2 (2 p log p - (1 - p)).
    positives = 0.25 * Q**2 * (2 * P * np.log(P) - Q)
    negatives = 0.75 * P**2 * (P - 2 * Q * np.log(Q))
    np.testing.assert_allclose(found.gradient, [negatives, positives], rtol=1e-9)
    # At p = 1/2: 1/4 * 1/4 * (log 1/2 - 1/2).
    assert found.gradient[1, 96] == pytest.approx((math.log(0.5) - 0.5) / 16)


def test_classes_are_balanced() -> None:
    profile = viz.profile("top_k:k=1.0", prevalence=0.02)
    found = profile.losses["top_k:k=1.0"]
    negatives, positives = profile.population.sizes
    # The mean over the weights is half the mean of each class: n / (2 N) a pixel.
    np.testing.assert_allclose(found.weight[0], profile.population.pixels / (2 * negatives), rtol=1e-9)
    np.testing.assert_allclose(found.weight[1], profile.population.pixels / (2 * positives), rtol=1e-9)
    assert found.weight[1, 0] == pytest.approx(25, rel=0.01)


def test_dice_at_a_point() -> None:
    profile = viz.profile("dice", prevalence=0.02)
    population = profile.population
    of_negatives, of_positives = (
        1 / (1 + np.exp(-np.repeat(*one))) for one in zip(population.values, population.counts, strict=True)
    )
    of_positives[population.sizes[1] // 2] = 0.5  # the probe at logit 0
    overlap, areas = of_positives.sum(), of_positives.sum() + of_negatives.sum() + population.sizes[1]
    slope = -2 / areas + 2 * overlap / areas**2  # of 1 - 2 TP / areas by p
    assert profile.losses["dice"].gradient[1, 96] == pytest.approx(population.pixels * slope / 4, rel=1e-7)


def test_squared_error_lets_go_of_what_is_quite_wrong() -> None:
    found = viz.profile("squared_error").losses["squared_error"]
    np.testing.assert_allclose(found.gradient, [2 * P * P * Q, -2 * Q * P * Q], rtol=1e-9)
    assert abs(found.weight[1, 0]) < 1e-4


def test_top_k_drops_below_its_threshold() -> None:
    profile = viz.profile("top_k:k=0.05", prevalence=0.01)
    found, population = profile.losses["top_k:k=0.05"], profile.population
    kept = round(0.05 * population.sizes[0])
    assert found.kept == pytest.approx(kept / population.sizes[0])
    negatives = np.sort(np.repeat(population.values[0], population.counts[0]))
    assert found.threshold == negatives[-kept]
    assert found.dropped is not None
    np.testing.assert_array_equal(found.dropped, negatives[-kept] > GRID)
    np.testing.assert_allclose(found.weight[0][GRID > -0.5], population.pixels / (2 * kept), rtol=1e-9)


def test_bin_loss_drops_whole_bins() -> None:
    found = viz.profile("bin_loss:key=2", prevalence=0.01).losses["bin_loss:key=2"]
    # Two negatives for a positive: the probabilities of 4 / 5 and more are too few, those of 3 / 5 are not.
    assert found.dropped is not None
    border = GRID[found.dropped.argmin()]
    assert (
        border - 1 / 8 < min((math.log(i / (5 - i)) for i in range(1, 5)), key=lambda one: abs(one - border)) <= border
    )
    assert 2 * 64 / 6336 <= found.kept < 0.1


# ---- The random drop ----


@pytest.mark.parametrize(("schedule", "expected"), [("linear", 0.2), ("square", 0.04), ("log", 1 + math.log10(0.2))])
def test_drop_probability(schedule: str, expected: float) -> None:
    logit = np.array([math.log(4)])  # p = 0.8
    assert drop_probability(schedule, logit)[0] == pytest.approx(expected)
    assert drop_probability("log", np.array([math.log(99)]))[0] == 0  # 1 - p = 0.01
    assert drop_probability(schedule, np.array([-800.0]))[0] == 1


@pytest.fixture
def few() -> Population:
    """Small enough that how many negatives are kept differs from call to call."""
    population = Population(0.1, (Logistic(-2.0, 1.0), Logistic(0.0, 2.0)))
    vars(population)["sizes"] = (36, 4)
    return population


@pytest.mark.parametrize("schedule", ["linear", "square", "log"])
def test_random_drop_against_a_mean_over_seeds(few: Population, schedule: str) -> None:
    calls = 4000
    logits, target = few.tensors()
    place, probe = few.sizes[0] // 2, 1.0
    logits[..., place] = probe
    expected = ExpectedDrop(schedule, few)
    values, gradients = expected.profile(np.array([probe, -30.0]))
    several = logits.expand(calls, -1, -1, -1).clone().requires_grad_()
    loss = functional.random_drop(several, target.expand_as(several), schedule=schedule, reduction="none", seed=5)
    loss.sum().backward()
    gradient = 40 * several.grad[:, 0, 0, place]
    within = 4 * gradient.std().item() / math.sqrt(calls)
    assert gradients[0, 0] == pytest.approx(gradient.mean().item(), abs=within)
    # 1 / K on average is more than 1 over the average: what a formula of means would give lies outside.
    kept = expected.kept @ few.rest(0)[0]
    q, p = 1 - drop_probability(schedule, np.array([probe]))[0], 1 / (1 + math.exp(-probe))
    assert gradients[0, 0] > 20 * q * p / (1 + kept) * 1.004
    assert values[0, 0] == pytest.approx(40 * loss.mean().item(), abs=4 * 40 * loss.std().item() / math.sqrt(calls))


def test_random_drop_in_a_population_against_a_mean_over_seeds(few: Population) -> None:
    calls = 4000
    logits, target = few.tensors()
    several = logits.expand(calls, -1, -1, -1).clone().requires_grad_()
    functional.random_drop(several, target.expand_as(several), reduction="none", seed=6).sum().backward()
    gradient = 40 * several.grad[:, 0, 0]
    expected = torch.from_numpy(np.concatenate(ExpectedDrop("log", few).gradients()))
    error = (gradient.mean(dim=0) - expected) / (gradient.std(dim=0) / math.sqrt(calls)).clamp(min=1e-9)
    assert error.abs().max() < 4.5
    assert (expected[36:] < 0).all()


def test_random_drop_is_drawn_with_its_probability() -> None:
    found = viz.profile(rarepixel.RandomDropLoss("linear"), prevalence=0.01).losses["RandomDropLoss"]
    np.testing.assert_allclose(found.dropped, Q, rtol=1e-12)
    assert found.threshold is None
    assert 0.01 < found.kept < 0.2


# ---- Shares ----


def test_shares_are_those_of_autograd() -> None:
    profile = viz.profile("hybrid_focal", prevalence=0.003)
    logits, target = profile.population.tensors()
    functional.hybrid_focal(logits.requires_grad_(), target).backward()
    size = logits.grad.abs()
    shares = profile.losses["hybrid_focal"].shares
    assert shares["positives"] == pytest.approx((size[target].sum() / size.sum()).item(), rel=1e-9)
    wrong = ~target & (logits >= 0)
    assert shares["false positives"] == pytest.approx((size[wrong].sum() / size.sum()).item(), rel=1e-9)
    assert sum(shares.values()) == pytest.approx(1)


def test_cross_entropy_drowns_positives_and_balanced_classes_do_not() -> None:
    losses = viz.profile(["bce", "top_k:k=0.05", "random_drop"], prevalence=0.001).losses
    assert losses["bce"].shares["positives"] < 0.01
    assert losses["top_k:k=0.05"].shares["positives"] > 0.4
    assert losses["random_drop"].shares["positives"] > 0.4


# ---- Populations ----


@pytest.mark.parametrize("prevalence", [1e-6, 0.001, 0.01, 0.37, 0.9])
def test_population(prevalence: float) -> None:
    population = Population(prevalence, HALF_TRAINED)
    negatives, positives = population.sizes
    assert positives / (positives + negatives) == pytest.approx(prevalence, rel=0.02, abs=5e-7)
    assert (positives >= 64) == (prevalence >= 64 / 2**20)
    assert ("positives are few" in population.note) == (prevalence == 1e-6)
    for label in (0, 1):
        values, counts = population.values[label], population.counts[label]
        assert counts.sum() == population.sizes[label]
        assert counts.max() - counts.min() <= 1
        assert (np.diff(values) > 0).all()
        middle = np.repeat(values, counts)[population.sizes[label] // 2]
        assert values[population.middle(label)] == middle
    logits, target = population.tensors()
    assert logits.shape == target.shape == (1, 1, 1, negatives + positives)
    assert target.sum() == positives


def test_the_default_is_half_trained() -> None:
    values = Population(0.01, HALF_TRAINED).values[0]
    assert values.mean() == pytest.approx(-4, abs=1e-6)
    assert values.std() == pytest.approx(2, abs=0.01)


def test_logits_of_a_net_are_resampled() -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(3, 1, 50, 60, generator=generator) < 0.05
    logits = torch.randn(3, 1, 50, 60, generator=generator) * 2 + 3 * target
    own = viz.profile("bce", prevalence=None, logits=logits, target=target).population
    assert own.prevalence == pytest.approx(target.double().mean().item())
    other = viz.profile("bce", prevalence=0.2, logits=logits, target=target.int()).population
    assert other.sizes[1] / other.pixels == pytest.approx(0.2, abs=1e-4)
    for population in (own, other):
        for label in (0, 1):
            drawn, given = (
                np.repeat(population.values[label], population.counts[label]),
                logits[target == label].double(),
            )
            for share in (0.02, 0.5, 0.98):
                below = (given <= float(np.quantile(drawn, share))).double().mean().item()
                assert below == pytest.approx(share, abs=0.006)
            assert given.min() <= drawn.min()
            assert drawn.max() <= given.max()


def test_measured_quantiles_are_exact_at_the_knots() -> None:
    found = Measured.of(np.array([0.0, 1.0, 5.0]))
    np.testing.assert_allclose(found.quantiles(np.array([0.0, 0.25, 0.5, 1.0])), [0, 0.5, 1, 5], atol=1e-12)


def test_saturated_logits_are_finite() -> None:
    logits = torch.tensor([-3e4, -800.0, 0.0, 900.0] * 20)
    target = torch.arange(80) % 5 == 0
    losses = ["focal", "dice", "squared_error", "random_drop", "bin_loss", "multi_channel_bin", "unified_focal"]
    for name, found in viz.profile(losses, prevalence=0.1, logits=logits, target=target).losses.items():
        for curve in (found.loss, found.gradient, found.weight):
            assert np.isfinite(curve).all(), name
        assert sum(found.shares.values()) == pytest.approx(1), name


def test_a_loss_without_numbers_is_a_gap(tmp_path: Path) -> None:
    def broken(x: Tensor, y: Tensor) -> Tensor:
        return (x.clamp(min=0) * y).sum() * math.nan

    found = viz.profile(broken, prevalence=0.1)
    assert math.isnan(found.losses["broken"].shares["positives"])
    assert found.save(tmp_path / "a.svg").stat().st_size > 10_000
    assert "NaN" not in found.save(tmp_path / "a.html").read_text().split("const DATA = ")[1].split("\n")[0]


def test_it_is_the_same_again() -> None:
    def noisy(x: Tensor, y: Tensor) -> Tensor:
        return ((x - y) ** 2 * torch.rand_like(x)).mean()

    once, again, other = (viz.profile(noisy, prevalence=0.1, seed=seed).losses["noisy"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(once.gradient, again.gradient)
    assert (once.gradient != other.gradient).any()
    assert once.formula is None


# ---- Formulas of the page ----


@pytest.mark.parametrize("name", PARAMETERS)
def test_losses_with_a_formula(name: str) -> None:
    loss = rarepixel._criterion.LOSSES[name]()
    assert formula_of(loss) == (name, usual_parameters(name))


@pytest.mark.parametrize(
    "loss",
    [
        rarepixel.FocalLoss(label_smoothing=0.1),
        rarepixel.DiceLoss(class_weights=[2.0]),
        rarepixel.FocalLoss(reduction="sum"),
        rarepixel.BinLoss(caffe=True),
        rarepixel.TopKLoss(k=100),
        rarepixel.WeightedCrossEntropyLoss(positive_weight=[3.0]),
        rarepixel.FocalLoss(ignore_index=1),
        rarepixel.MultiChannelBinLoss(),
        torch.nn.BCEWithLogitsLoss(),
    ],
)
def test_losses_without(loss: torch.nn.Module) -> None:
    assert formula_of(loss) is None


def test_what_does_not_matter_is_no_obstacle() -> None:
    loss = rarepixel.TopKLoss(k=0.3, absent="count", balance="batch", ignore_index=255)
    assert formula_of(loss) == ("top_k", {"k": 0.3})
    found = viz.profile(rarepixel.TwoStage(loss, rarepixel.SquaredErrorLoss(), switch_at=5)).losses["TwoStage"]
    assert found.formula == ("top_k", {"k": 0.3})


# ---- What is wrong ----


def nothing(x: Tensor, y: Tensor) -> Tensor:
    return x.detach().sum() + y.sum()


def two_channels(x: Tensor, y: Tensor) -> Tensor:
    return (x.reshape(-1, 2, 3, 5) - y.reshape(-1, 2, 3, 5)).mean()


LOGITS, TARGET = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0, 0, 1])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"prevalence": 0.0}, ValueError, "prevalence: expected a share above 0 and below 1, got 0.0"),
        ({"prevalence": 1}, ValueError, "prevalence: expected a share above 0 and below 1, got 1.0"),
        ({"prevalence": math.nan}, ValueError, "prevalence: expected a share above 0"),
        ({"prevalence": 1e-9}, ValueError, "prevalence: expected a share that leaves a pixel of each class"),
        ({"prevalence": "1%"}, TypeError, "prevalence: expected a number, got str"),
        ({"prevalence": None}, ValueError, "prevalence: expected a share, since there are no logits"),
        ({"logits": LOGITS}, ValueError, "logits, target: expected both or neither, got logits alone"),
        ({"target": TARGET}, ValueError, "logits, target: expected both or neither, got a target alone"),
        ({"logits": LOGITS, "target": TARGET * 0}, ValueError, "both classes, got 0 positives of 3"),
        ({"logits": LOGITS, "target": TARGET * 2}, ValueError, "target: expected labels 0 and 1, got 2"),
        ({"logits": LOGITS * math.nan, "target": TARGET}, ValueError, "logits: expected finite numbers, got nan"),
        ({"logits": TARGET, "target": TARGET}, TypeError, "logits: expected a floating dtype, got int64"),
        ({"logits": LOGITS, "target": TARGET[None]}, ValueError, r"target: expected the shape of logits \(3,\)"),
        ({"logits": [1.0], "target": TARGET}, TypeError, "logits: expected a torch.Tensor, got list"),
        ({"losses": []}, ValueError, "losses: expected at least one"),
        ({"losses": {str(n): "bce" for n in range(8)}}, ValueError, "losses: expected at most 7"),
        ({"losses": "segment_thickness"}, ValueError, "'segment_thickness', which looks at whole segments"),
        ({"losses": "joint"}, ValueError, "'joint', which looks at whole segments"),
        ({"losses": torch.nn.CrossEntropyLoss()}, ValueError, "'CrossEntropyLoss', which is one of several classes"),
        ({"losses": "dice:activation=softmax"}, ValueError, "one of several classes"),
        ({"losses": rarepixel.MultiChannelBinLoss(background=0)}, ValueError, "one of several classes"),
        ({"losses": "random_drop:reduction=sum"}, ValueError, "expected reduction 'mean'"),
        ({"losses": nothing}, ValueError, "expected 'nothing' to have a gradient"),
        ({"losses": two_channels}, ValueError, r"'two_channels' to take logits and labels of shape \(1, 1, 1, 6400\)"),
        ({"losses": 3}, TypeError, "losses: expected names"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        viz.profile(**({"losses": "bce"} | options))  # type: ignore[arg-type]


# ---- The figure ----


def test_figure(tmp_path: Path) -> None:
    found = viz.profile(["bce", "random_drop", "top_k:k=0.05"], title="A net")
    axes = found.figure().axes
    assert len(axes) == 9
    shares, _, drops, losses, gradients, _ = axes[:6]
    assert [tick.get_text() for tick in shares.get_yticklabels()] == ["bce", "random_drop", "top_k:k=0.05"]
    widths = [bar.get_width() for bar in shares.patches]
    assert widths[:3] == pytest.approx(list(found.losses["bce"].shares.values()))
    assert len(drops.lines) == 2
    np.testing.assert_allclose(losses.lines[0].get_ydata(), found.losses["bce"].loss[0])
    assert gradients.get_yscale() == "log"
    # Random drop and Top-k weigh positives alike: each line has the gaps of the other.
    assert [line.get_linestyle() for line in axes[7].lines[:6:2]] == ["-", "--", "--"]
    with pytest.raises(ValueError, match="path: expected an ending of png, svg, pdf, html"):
        found.save(tmp_path / "a.gif")
    assert repr(found) == "Profile(bce, random_drop, top_k:k=0.05; prevalence=0.01)"
