"""Landscapes: directions by hand and by others' programs, values by direct evaluation, files, planes of trainings."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("matplotlib")

import rarepixel
from rarepixel import viz
from rarepixel.viz import _landscape, _points
from rarepixel.viz._directions import Weights, principal_plane, random_direction, trained_weights
from rarepixel.viz._folding import Folded
from rarepixel.viz._losses import criteria

from .landscapes import data, network, trajectory

LOSSES = {"BCE": "bce", "Dice": "dice", "random drop": "random_drop:log"}


def drawn(weights: Weights, model: nn.Module, seed: int = 0, number: int = 2) -> list[Weights]:
    generator = torch.Generator().manual_seed(seed)
    return [random_direction(model, weights, generator) for _ in range(number)]


def moved(model: nn.Module, directions: Sequence[Weights], place: Sequence[float]) -> nn.Module:
    """A copy of the model at a place, by adding to its parameters."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in found.named_parameters():
            for step, direction in zip(place, directions, strict=True):
                value += step * direction[name]
    return found


def with_statistics_of(model: nn.Module, image: Tensor) -> nn.Module:
    """A copy whose batch normalisation takes the statistics of each batch."""
    found = copy.deepcopy(model)
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    found(image)
    return found


def value(model: nn.Module, loss: Any, batch: Sequence[Tensor]) -> float:
    image, target, mask = batch
    torch.manual_seed(0)
    with torch.no_grad():
        return float(loss(model(image), target, mask=mask))


DIRECT = {
    "BCE": rarepixel.WeightedCrossEntropyLoss(),
    "Dice": rarepixel.DiceLoss(),
    "random drop": rarepixel.RandomDropLoss(),
}


# ---- Directions ----


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, groups=1)
        self.up = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(5, 2)


def test_filters_of_a_direction_are_as_long_as_the_networks() -> None:
    torch.manual_seed(0)
    model = Layers()
    with torch.no_grad():
        model.conv.weight[1] = 0  # a filter that is nothing does not move
    weights = trained_weights(model)
    (direction,) = drawn(weights, model, number=1)
    generator = torch.Generator().manual_seed(0)
    gaussian = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in weights.items()
        if value.dim() > 1
    }
    for name in ("conv.weight", "linear.weight"):
        for filter_of, random, found in zip(weights[name], gaussian[name], direction[name], strict=True):
            expected = random / random.norm() * filter_of.double().norm()
            torch.testing.assert_close(found, expected.float())
    # Of a transposed convolution in groups: output channel 3 g + o is made by weight[2 g : 2 g + 2, o].
    for group in range(2):
        for out in range(3):
            here = (slice(2 * group, 2 * group + 2), out)
            random = gaussian["up.weight"][here]
            expected = random / random.norm() * weights["up.weight"][here].double().norm()
            torch.testing.assert_close(direction["up.weight"][here], expected.float())
    for name in ("conv.bias", "up.bias", "norm.weight", "norm.bias", "linear.bias"):
        assert not direction[name].any()
    assert not direction["conv.weight"][1].any()


def test_others_normalise_filters_alike() -> None:
    parameters = pytest.importorskip("loss_landscapes.model_interface.model_parameters")
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.Conv2d(3, 1, 1, bias=False))
    weights = trained_weights(model)
    generator = torch.Generator().manual_seed(0)
    theirs = parameters.ModelParameters(
        [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in weights.values()]
    )
    theirs.filter_normalize_(parameters.ModelParameters([one.double() for one in weights.values()]))
    (ours,) = drawn(weights, model, number=1)
    for one, other in zip(ours.values(), theirs.parameters, strict=True):
        torch.testing.assert_close(one, other.float())


def test_others_find_the_same_losses_in_a_random_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    others = pytest.importorskip("loss_landscapes.main")
    parameters = pytest.importorskip("loss_landscapes.model_interface.model_parameters")
    torch.manual_seed(1)
    # Without biases, which they move too.
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.Tanh(), nn.Conv2d(3, 1, 1, bias=False))
    image, target, _ = data()
    directions = drawn(trained_weights(model), model)
    given = iter([parameters.ModelParameters([one.clone() for one in each.values()]) for each in directions])
    monkeypatch.setattr(others, "rand_u_like", lambda _: next(given))
    monkeypatch.setattr(others, "orthogonal_to", lambda _: next(given))

    def metric(wrapped: Any) -> float:
        return float(nn.functional.binary_cross_entropy_with_logits(wrapped.forward(image), target.float()))

    with torch.no_grad():
        theirs = others.random_plane(model, metric, distance=1, steps=4, normalization="filter", deepcopy_model=True)
    # Theirs go from -1/2 in four steps of 1/4; in every other row they take the step before they look.
    ours = viz.landscape(model, "bce", (image, target), points=5, span=0.5).values["bce"]
    np.testing.assert_allclose(ours[1:4:2, :4], theirs[1::2], rtol=2e-6)
    np.testing.assert_allclose(ours[0:4:2, 1:], theirs[0::2], rtol=2e-6)


def test_principal_components_are_those_of_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    torch.manual_seed(2)
    steps = [{"a": torch.randn(4, 3), "b": torch.randn(5)} for _ in range(6)]
    found = principal_plane(steps, 2)
    flat = np.stack([np.concatenate([one["a"].numpy().ravel(), one["b"].numpy()]) for one in steps]).astype(np.float64)
    pca = decomposition.PCA(2).fit(flat - flat[-1])
    directions = np.stack([np.concatenate([one["a"].numpy().ravel(), one["b"].numpy()]) for one in found.directions])
    np.testing.assert_allclose(found.variance, pca.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(np.abs((directions * pca.components_).sum(axis=1)), 1, rtol=1e-6)
    np.testing.assert_allclose(found.places, (flat - flat[-1]) @ directions.T, atol=1e-6)
    apart = flat - flat[-1] - found.places @ directions
    np.testing.assert_allclose(found.distances, np.linalg.norm(apart, axis=1), atol=1e-6)
    assert (found.places[0] <= 0).all()


# ---- Values ----


@pytest.mark.parametrize(("norm", "at_once"), [("stored", 1), ("stored", 4), ("recomputed", 1), ("recomputed", 4)])
def test_values_are_those_of_direct_evaluation(norm: str, at_once: int) -> None:
    model, batches = network(), [data(2), data(3)]
    found = viz.landscape(model, LOSSES, batches, points=3, span=0.7, norm=norm, at_once=at_once, seed=0)
    directions = drawn(trained_weights(model), model)
    assert found.norm == norm
    assert found.is_complete
    for row, column in [(0, 2), (1, 1), (2, 0), (2, 2)]:
        there = moved(model, directions, (found.axes[0][row], found.axes[1][column]))
        for name, loss in DIRECT.items():
            values = []
            for batch in batches:
                seen = there if norm == "stored" else with_statistics_of(there, batch[0])
                values.append(value(seen, loss, batch))
            assert found.values[name][row, column] == pytest.approx(np.mean(values), rel=1e-6, abs=0)
    np.testing.assert_allclose(
        [found.true[name][0] for name in LOSSES], [found.values[name][1, 1] for name in LOSSES], rtol=1e-6
    )


def test_the_network_stays_as_it_was() -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    viz.landscape(model, "bce", data(), points=3, norm="recomputed")
    assert model.training
    for name, one in model.state_dict().items():
        assert torch.equal(one, before[name])


def test_frozen_parameters_stay() -> None:
    model = network()
    model.head.requires_grad_(False)
    directions = drawn(trained_weights(model), model)
    assert "head.weight" not in directions[0]
    found = viz.landscape(model, "bce", data(), points=3, dims=1)
    there = copy.deepcopy(model)
    with torch.no_grad():
        for name, one in directions[0].items():
            there.get_parameter(name).add_(one)
    assert found.values["bce"][2] == pytest.approx(value(there, DIRECT["BCE"], data()), rel=1e-6)


class Doubtful(nn.Module):
    """A network that breaks where its weight is above 1.2 and has side outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(2, 1, 1, bias=False)
        nn.init.ones_(self.scale.weight)

    def forward(self, image: Tensor) -> list[Tensor]:
        logits = self.scale(image) + (1.2 - self.scale.weight[0, 0, 0, 0]).sqrt()
        return [logits, 2 * logits]


def test_nan_stays_nan_and_side_outputs_are_added_up() -> None:
    image, target, mask = data()
    model = Doubtful()
    found = viz.landscape(model, {"BCE": "bce"}, (image, target, mask), points=7, dims=1, span=1.5)
    (direction,) = drawn(trained_weights(model), model, number=1)
    weights = 1 + found.axes[0] * float(direction["scale.weight"][0, 0, 0, 0])
    assert np.array_equal(np.isnan(found.values["BCE"]), weights > 1.2)
    assert 0 < np.isnan(found.values["BCE"]).sum() < 7
    with torch.no_grad():
        outputs = model(image)
        both = sum(float(DIRECT["BCE"](output, target, mask=mask)) for output in outputs)
    assert found.values["BCE"][3] == pytest.approx(both, rel=1e-6)
    found.figure().canvas.draw_idle()


def test_normalisation_is_folded_into_convolutions() -> None:
    torch.manual_seed(0)
    shared, relu = nn.Conv2d(3, 3, 1), nn.ReLU()
    model = nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), relu),
        *(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3, affine=False), shared, nn.BatchNorm2d(3), shared),
        *(nn.Conv2d(3, 3, 1), relu, nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1)),
    )
    image, target, mask = data()
    model.train()(3 * image + 1)
    model.eval()
    folded = Folded(model)
    gone = [number for number, one in enumerate(folded.model) if isinstance(one, nn.Identity)]  # type: ignore[arg-type]
    assert gone == [1, 4]
    found = viz.landscape(model, {"BCE": "bce"}, (image, target, mask), directions=trajectory(model, 3), points=3)
    assert found.norm == "recomputed"
    weights = trained_weights(model)
    moves = [{name: torch.randn_like(value) for name, value in weights.items()}]  # normalisations, too
    at = torch.func.functional_call(folded.model, folded.weights(moved_weights(weights, moves)), (image,))
    torch.testing.assert_close(at, moved(model, moves, [0.3])(image), rtol=1e-5, atol=1e-5)


def moved_weights(weights: Weights, moves: Sequence[Weights]) -> Weights:
    return {name: value + 0.3 * moves[0][name] for name, value in weights.items()}


# ---- Planes of trainings ----


def test_layers_that_are_called_one_by_one_are_not_folded() -> None:
    """What lies between a convolution and its normalisation is used, too."""

    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3))
            self.head = nn.Conv2d(6, 1, 1)

        def forward(self, image: Tensor) -> Tensor:
            before = self.layers[0](image)
            scores: Tensor = self.head(torch.cat([before, self.layers[1](before)], dim=1))
            return scores

    torch.manual_seed(0)
    model = Skipping()
    model.train()(3 * data()[0] + 1)
    found = viz.landscape(model, "bce", data(), points=2)
    assert found.true["bce"] == pytest.approx(value(model.eval(), DIRECT["BCE"], data()), rel=1e-6)
    assert found.on_plane["bce"] == pytest.approx(found.true["bce"], rel=1e-6)


def test_three_checkpoints_lie_in_their_plane() -> None:
    model = network()
    states = trajectory(model, 3)
    found = viz.landscape(model, LOSSES, data(), directions=states, points=3)
    assert found.norm == "recomputed"
    assert found.variance.sum() == pytest.approx(1)
    assert found.distances == pytest.approx(0, abs=1e-3 * np.ptp(found.places))
    image, _, _ = data()
    for number, (_, state) in enumerate(states):
        there = copy.deepcopy(model)
        there.load_state_dict(state)
        for name, loss in DIRECT.items():
            expected = value(with_statistics_of(there, image), loss, data())
            assert found.true[name][number] == pytest.approx(expected, rel=1e-6)
            assert found.on_plane[name][number] == pytest.approx(expected, rel=1e-4)
    for axis, column in zip(found.axes, found.places.T, strict=True):
        assert axis[0] < column.min() < column.max() < axis[-1]


def test_a_plane_that_holds_little_shows_it() -> None:
    model = network()
    found = viz.landscape(model, "bce", data(), directions=trajectory(model, 6), points=3)
    assert found.variance.sum() < 1
    off = np.abs(found.true["bce"] - found.on_plane["bce"])
    assert off[-1] == pytest.approx(0, abs=1e-6)  # the plane goes through the last one
    assert off.max() > 1e-4
    worst = found.checkpoints[int(np.abs(np.log(found.true["bce"] / found.on_plane["bce"])).argmax())]
    said = found.figure()._supxlabel.get_text().replace("\n", " ")  # type: ignore[attr-defined]
    assert f"farthest off at {worst}: {found.true['bce'][found.checkpoints.index(worst)]:.3g}" in said
    assert f"the plane holds {100 * found.variance.sum():.0f} %" in said.replace("\N{NO-BREAK SPACE}", " ")


def test_stored_statistics_of_checkpoints_are_their_own() -> None:
    model = network()
    states = trajectory(model, 3)
    found = viz.landscape(model, "bce", data(), directions=states, points=2, norm="stored")
    there = copy.deepcopy(model)
    there.load_state_dict(states[0][1])
    assert found.true["bce"][0] == pytest.approx(value(there.eval(), DIRECT["BCE"], data()), rel=1e-6)


# ---- Files ----


def test_an_interrupted_landscape_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "surface.npz", network()
    seen: list[float] = []

    def stop(word: str, done: int, of: int) -> None:
        del word, of
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        viz.landscape(model, LOSSES, data(), points=4, path=path, at_once=1, progress=stop)
    half = viz.Landscape.load(path)
    assert (half.done.sum(), half.is_complete) == (5, False)
    assert "5 of 16 points" in half.figure()._supxlabel.get_text()  # type: ignore[attr-defined]
    told: list[tuple[str, int, int]] = []
    found = viz.landscape(
        model,
        LOSSES,
        data(),
        points=4,
        path=path,
        at_once=1,
        progress=lambda *one: told.append(one),
        estimate=seen.append,
    )
    assert [one[1:] for one in told] == [(number, 16) for number in range(6, 17)]
    assert len(seen) == 1
    whole = viz.landscape(model, LOSSES, data(), points=4, at_once=1)
    for name in LOSSES:
        assert np.array_equal(found.values[name], whole.values[name])
        assert np.array_equal(viz.Landscape.load(path).values[name], whole.values[name])
    # All is there: nothing is evaluated again.
    monkeypatch.setattr(_points.Evaluator, "at", None)
    again = viz.landscape(model, LOSSES, data(), points=4, path=path, title="another")
    assert again.is_complete
    assert again.title == "another"


@pytest.mark.parametrize(
    "other", [{"points": 5}, {"span": 0.5}, {"losses": "dice"}, {"seed": 1}, {"norm": "recomputed"}, {"data": data(3)}]
)
def test_a_file_of_another_landscape_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    path, model = tmp_path / "surface.npz", network()
    same: dict[str, Any] = {"losses": "bce", "data": data(), "points": 2, "path": path}
    viz.landscape(model, **same)
    with pytest.raises(ValueError, match=r"surface.npz: expected no file, or this landscape begun"):
        viz.landscape(model, **same | other)


def test_a_file_of_a_callable_that_does_something_else_is_refused(tmp_path: Path) -> None:
    """Nothing but its values tells two callables, or two class weights, of one name from each other."""
    one, other = (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight)) for weight in (1.0, 2.0))
    losses: list[tuple[Any, Any]] = [
        (one, other),
        (lambda logits, _: logits.mean(), lambda logits, _: logits.square().mean()),
        ("top_k:k=0.1", "top_k:k=0.2"),
    ]
    for number, (before, after) in enumerate(losses):
        same: dict[str, Any] = {"data": data(), "points": 2, "path": tmp_path / f"{number}.npz"}
        begun = viz.landscape(network(), {"a": before}, **same)
        assert np.array_equal(viz.landscape(network(), {"a": before}, **same).values["a"], begun.values["a"])
        with pytest.raises(ValueError, match=r"npz: expected no file, or this landscape begun"):
            viz.landscape(network(), {"a": after}, **same)


def test_files(tmp_path: Path) -> None:
    found = viz.landscape(network(), LOSSES, data(), points=3, title="a title")
    for kind in ("png", "svg", "pdf", "npz"):
        assert found.save(tmp_path / f"picture.{kind}").stat().st_size > 500
    there = viz.Landscape.load(tmp_path / "picture.npz")
    assert (there.title, there.labels, there.norm) == (found.title, found.labels, found.norm)
    with pytest.raises(ValueError, match=r"path: expected an ending of png, svg, pdf, npz, got 'picture.gif'"):
        found.save(tmp_path / "picture.gif")
    (tmp_path / "other.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"other.npz: expected a landscape saved as NPZ"):
        viz.Landscape.load(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"array.npy: expected a landscape saved as NPZ"):
        viz.Landscape.load(tmp_path / "array.npy")
    whole = (tmp_path / "picture.npz").read_bytes()
    for place in range(40, len(whole) - 1, 97):
        (tmp_path / "other.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(ValueError):  # a byte that says nothing may change
            viz.Landscape.load(tmp_path / "other.npz")


@pytest.mark.parametrize("centre", [0.0, -2.0, math.nan])
def test_a_line_of_any_values_is_drawn(centre: float) -> None:
    """By the size of the value at the centre where there is one, so that no curve is upside down."""
    found = viz.landscape(network(), {"_mine": lambda *_: torch.tensor(centre), "bce": "bce"}, data(), dims=1, points=3)
    (axis,) = found.figure().axes
    assert [text.get_text().split()[0] for text in axis.get_legend().get_texts()] == ["_mine", "bce"]
    mine = axis.lines[0].get_ydata()
    assert np.array_equal(mine, np.full(3, np.sign(centre)), equal_nan=True)


# ---- Errors ----


def frozen() -> nn.Module:
    return network().requires_grad_(False)


def broken() -> nn.Module:
    model = network()
    with torch.no_grad():
        model.head.weight[0, 1] = math.nan
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Identity, "model: expected one with parameters, got Identity without any"),
        (frozen, r"model: expected parameters that are trained, got 20 that are all frozen; model.requires_grad_"),
        (broken, "model: expected finite weights, got 1 of 3 in head.weight that are NaN or infinite"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        viz.landscape(model(), "bce", data(), points=2)
    with pytest.raises(ValueError, match=message):
        viz.curvature(model(), "bce", data())


def test_checkpoints_that_cannot_be() -> None:
    model = network()
    states = trajectory(model, 3)

    def refused(message: str, directions: Any, error: type[Exception] = ValueError, **more: Any) -> None:
        with pytest.raises(error, match=message):
            viz.landscape(model, "bce", data(), directions=directions, points=2, **more)

    refused("expected several checkpoints of a training, got 1; a training keeps them with snapshots", states[:1])
    refused(r"expected at least 3 checkpoints for a plane, got 2; .* a line \(dims=1\)", states[:2])
    refused("expected checkpoints that span a plane, got 3 that span 1 dimension", [states[0], states[0], states[1]])
    refused("expected checkpoints that span a line, got 2 that span 0 dimensions", [states[0]] * 2, dims=1)
    nan = copy.deepcopy(states[1][1])
    nan["head.bias"][0] = math.nan
    refused(
        "directions: step 4: expected finite weights, got 1 of 1 in head.bias", [states[0], ("step 4", nan), states[2]]
    )
    other = nn.Conv2d(2, 1, 1).state_dict()
    refused(
        r"expected checkpoints of SmallUNet, with encoder.0.0.weight of shape \(3, 2, 3, 3\), got none in last",
        [("last", other)],
    )
    refused(r"directions: expected checkpoints \(name, state dict\), got OrderedDict at 0", [states[0][1]], TypeError)
    refused("directions: expected one of 'random', got 'pca'", "pca")
    assert viz.landscape(model, "bce", data(), directions=states[:2], points=3, dims=1).variance == pytest.approx([1])


def test_arguments_that_cannot_be() -> None:
    model, (image, target, mask) = network(), data()

    def refused(message: str, error: type[Exception] = ValueError, **other: Any) -> None:
        given: dict[str, Any] = {"losses": "bce", "data": (image, target, mask), "points": 2} | other
        with pytest.raises(error, match=message):
            viz.landscape(model, **given)

    refused("points: expected an integer of at least 2, got 1", points=1)
    refused("dims: expected 1 or 2, got 3", dims=3)
    refused("span: expected a number above 0, got -1", span=-1)
    refused("span: expected a number above 0, got '1'", span="1")
    refused("at_once: expected an integer of at least 1, or None, got 0", at_once=0)
    refused("path: expected an ending of npz, got 'surface.png'", path="surface.png")
    refused("norm: expected", norm="train")
    refused("losses: expected at least one, got none", losses=[])
    refused("losses: expected a name once, got 'bce' twice", losses=["bce", "bce"])
    refused("losses: expected names such as 'top_k'.*got int", TypeError, losses=[3])
    refused("data: expected at least one batch of images, got none", data=[])
    refused(
        r"data: expected a target of the image's size \(2, 2, 8, 12\) in batch 0, got \(2, 1, 8, 11\)",
        data=(image, target[..., :11]),
    )
    refused(
        "data: expected a target of 0 and 1 with a channel for each class.*got 2 in batch 0",
        data=(image, 2 * target[:, 0].long()),
    )
    refused("data: expected batches of tensors .*got NoneType", TypeError, data=None)
    refused("data: expected batches of tensors .*got Tensor", TypeError, data=image)
    refused("data: expected finite images, got NaN or infinity in batch 0", data=(image / 0, target))
    refused(r"data: expected batches of tensors .*got \(Tensor, str\) in batch 0", TypeError, data=[(image, "target")])
    refused(
        "losses: multi_channel_bin.* does not take these outputs and targets", losses="multi_channel_bin:background=0"
    )


def test_data_are_as_the_network_takes_them() -> None:
    """A list is a batch, too, and images are of the weights' dtype."""
    image, target, mask = data()
    plain, listed = (viz.landscape(network(), "bce", given, points=2) for given in (data(), [image, target, mask]))
    assert np.array_equal(plain.values["bce"], listed.values["bce"])
    double = viz.landscape(network().double(), "bce", data(), points=2)
    assert double.values["bce"] == pytest.approx(plain.values["bce"], rel=1e-5)


def test_class_indices_of_a_softmax() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(2, 3, 1)
    image, target, mask = data()
    indices = target[:, 0].long() + (image[:, 0] > 1.5)
    assert indices.unique().tolist() == [0, 1, 2]
    some, others = (image[:1], indices[:1].clamp(max=1), mask[:1]), (image[1:], indices[1:], mask[1:])
    losses = {"CE": "bce", "random drop": "random_drop:log"}
    found = viz.landscape(model, losses, [some, others], points=3, activation="softmax")
    with torch.no_grad():
        values = [
            nn.functional.cross_entropy(model(one), labels, reduction="none")[counts[:, 0]].mean()
            for one, labels, counts in (some, others)
        ]
    assert found.values["CE"][1, 1] == pytest.approx(float(sum(values)) / 2, rel=1e-6)
    hot = torch.stack([indices == 1, indices == 2], dim=1)
    again = viz.landscape(model, losses, (image, hot, mask), points=3, activation="softmax")
    assert again.true["CE"] == pytest.approx(
        viz.landscape(model, losses, (image, indices, mask), points=2, activation="softmax").true["CE"]
    )
    with pytest.raises(ValueError, match=r"or of a softmax indices \(N, \*spatial\), got -1"):
        viz.landscape(model, losses, (image, indices - 1, mask), points=3, activation="softmax")


def test_transformers() -> None:
    """Their operators without a rule for several places warn of nothing."""

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(2, 4), nn.Linear(4, 1)
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.place = nn.Parameter(torch.randn(96, 4))

        def forward(self, image: Tensor) -> Tensor:
            tokens = self.embed(image.flatten(2).transpose(1, 2)) + self.place
            scores: Tensor = self.head(self.layer(tokens))
            return scores.transpose(1, 2).reshape(-1, 1, *image.shape[2:])

    torch.manual_seed(0)
    model = Transformer()
    several, alone = (viz.landscape(model, "bce", data(), points=3, at_once=number) for number in (9, 1))
    assert several.values["bce"] == pytest.approx(alone.values["bce"], rel=1e-6)


def test_losses_drop_the_same_pixels_everywhere() -> None:
    """Along a direction that does not move the logits a random loss is flat."""
    model = network()
    found = viz.landscape(model, "random_drop", data(), points=5, dims=1, span=1e-9)
    assert np.ptp(found.values["random_drop"]) < 1e-6
    assert len(criteria(["random_drop", "top_k"])) == 2


def test_what_is_saved_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_landscape, "_SAVED_EVERY", 0.0)
    path = tmp_path / "surface.npz"
    saved = []

    def look(word: str, done: int, of: int) -> None:
        del word, of
        if done > 1:
            saved.append(int(viz.Landscape.load(path).done.sum()))

    viz.landscape(network(), "bce", data(), points=2, path=path, at_once=1, progress=look)
    assert saved == [1, 2, 3]
