"""What pictures are asked for: numbers of a run reach them as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rarepixel import see, viz
from rarepixel.losses import TopKLoss
from rarepixel.see import subjects
from rarepixel.train import Run, train
from rarepixel.train.loading import images_of_split
from rarepixel.viz._picture import Picture

from ..train.toys import toy

pytestmark = pytest.mark.filterwarnings("ignore:all background")
KINDS = ("png", "svg", "html", "npz", "gif", "csv")


class Drawn(Picture):
    """A picture that is its own name."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def _writers(self) -> Mapping[str, Callable[[], bytes]]:
        return {kind: lambda: self.name.encode() for kind in KINDS}

    @classmethod
    def load(cls, path: Path) -> Drawn:
        return cls(f"loaded from {Path(path).name}")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What pictures were asked for, none of which is drawn."""
    found: dict[str, Any] = {}

    def of(name: str) -> Callable[..., Drawn]:
        def draw(*arguments: Any, **how: Any) -> Drawn:
            if name == "landscape":
                (how["estimate"] or print)(150.0)
            found[name] = (arguments, how)
            if name == "pixels":
                found.setdefault("iterations", []).append(next(iter(arguments[3].values())).iteration)
            return Drawn(name)

        return draw

    for name in ("profile", "landscape", "curvature", "pixels"):
        monkeypatch.setattr(viz, name, of(name), raising=False)
    monkeypatch.setattr(viz, "PixelFrames", of("frames"))
    monkeypatch.setattr(viz, "Landscape", Drawn, raising=False)
    return found


def test_the_population_of_a_class(tmp_path: Path, asked: dict[str, Any]) -> None:
    how = ["--data.dataset", "tests.train.toys.Spots:classes=2", "--activation", "softmax", "--prior_start", "true"]
    run = train("demo", tmp_path / "run", toy(tmp_path, "--steps", "2", "--validate_every", "2", *how))
    see.profile(run.folder, of_class="HE", losses="bce,joint", formats=["html"])
    losses, how = asked["profile"]
    trained = subjects.Trained(run)
    images = images_of_split(run, "validation")
    odds = [trained.predictor(one.image, one.mask)[1][one.mask[0]] for one in images]
    assert torch.equal(how["logits"], torch.cat(odds))
    assert torch.equal(how["target"], torch.cat([one.target[1][one.mask[0]] for one in images]))
    assert (list(losses[0]), how["prevalence"]) == (["bce"], None)


def test_a_profile_of_nothing(tmp_path: Path, asked: dict[str, Any]) -> None:
    see.profile(losses={"mine": "top_k"}, prevalence=0.1, out=tmp_path, formats=["png"])
    (losses,), how = asked["profile"]
    assert how == {"seed": 0, "title": "", "prevalence": 0.1}
    assert losses["mine"].schedule.value.item() == 0.14
    see.profile(losses="bce", out=tmp_path, formats=["png"])
    assert asked["profile"][1] == {"seed": 0, "title": ""}


def test_a_profile_of_files(tmp_path: Path, asked: dict[str, Any]) -> None:
    logits, truth, fov = torch.linspace(-3, 2, 24).reshape(4, 6), torch.zeros(4, 6), torch.ones(4, 6)
    truth[1, 2:4], fov[0] = 1, 0
    paths = {}
    for name, values in (("logits", logits), ("truth", truth), ("fov", fov)):
        paths[name] = tmp_path / f"{name}.npy"
        np.save(paths[name], values.numpy() if name == "logits" else values.numpy().astype(bool))
    see.profile(losses="bce", out=tmp_path, formats=["png"], **paths)
    how = asked["profile"][1]
    assert torch.equal(how["logits"], logits[1:].flatten())
    assert torch.equal(how["target"], truth[1:].flatten().bool())
    assert (how["prevalence"], how["title"]) == (None, "logits")


def test_a_landscape_around_the_weights(compared: Path, run: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    seconds: list[float] = []
    found = see.landscape(compared, points=5, span=0.5, images=2, out=tmp_path, seed=3, estimate=seconds.append)
    assert [path.name for path in found.files] == ["landscape-random.png", "landscape-random.npz"]
    assert seconds == [150]
    (network, losses, samples), how = asked["landscape"]
    last = torch.load(run / "weights/last.pt")
    assert all(torch.equal(value, last[name]) for name, value in network.state_dict().items())
    assert list(losses) == ["Top-k", "BCE"]
    assert isinstance(losses["Top-k"], TopKLoss)
    assert losses["Top-k"].iteration == 11
    assert [image.shape for image, _, _ in samples] == [(2, 1, 40, 48)]
    assert (how["directions"], how["points"], how["span"], how["seed"]) == ("random", 5, 0.5, 3)
    assert how["path"] == tmp_path / "landscape-random.npz"


def test_the_plane_of_a_training(run: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    found = see.landscape(run, plane="trajectory", curvature=True, out=tmp_path)
    assert [path.name for path in found.files] == [
        "landscape-trajectory.png",
        "landscape-trajectory.npz",
        "curvature.png",
        "curvature.csv",
    ]
    directions = asked["landscape"][1]["directions"]
    assert [label for label, _ in directions] == ["step 0", "step 4", "step 8", "step 12"]
    for (_, state), (_, path) in zip(directions, Run(run).snapshots, strict=True):
        saved = torch.load(path)
        assert all(torch.equal(state[name], value) for name, value in saved.items())
    assert [label for label, _ in asked["curvature"][0][3]] == [label for label, _ in directions]
    again = see.landscape(tmp_path / "landscape-trajectory.npz", formats=["svg", "npz"])
    assert [path.name for path in again.files] == ["landscape-trajectory.svg"]
    assert again.files[0].read_text() == "loaded from landscape-trajectory.npz"


def test_frames_are_losses_at_their_steps(compared: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    found = see.pixels(compared, losses="top_k", frames=True, out=tmp_path, image="spots_06")
    assert [path.name for path in found.files] == [
        "pixels.png",
        "pixels.html",
        "pixels-frames.gif",
        "pixels-frames.html",
    ]
    ((frames,), _) = asked["frames"]
    assert [label for label, _ in frames] == ["step 0", "step 4", "step 8", "step 12"]
    assert asked["iterations"] == [11, 0, 4, 8, 11]  # of the last weights, and of each frame
    assert asked["pixels"][1]["title"] == "spots_06, trained with Top-k"


@pytest.mark.usefixtures("asked")
def test_a_gallery_and_its_index(compared: Path, tmp_path: Path) -> None:
    found = see.gallery(compared, tmp_path / "gallery", points=3)
    index = found.files[-1].read_text()
    for path in found.files[:-1]:
        assert f"- [{path.name}]({path.name}): " in index
    assert {path.stem for path in found.files[:-1]} == set(see._gallery.QUESTIONS)
    assert index.count("\n- ") == len(found.files) - 1
