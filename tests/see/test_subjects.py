"""What is looked at: losses at the step of the weights, images, networks of any head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rarepixel import see
from rarepixel.data import Images
from rarepixel.losses import SquaredErrorLoss, TopKLoss, TwoStage
from rarepixel.see import subjects
from rarepixel.see.scenes import scene_of_run
from rarepixel.train import Run, train
from rarepixel.train.loading import images_of_split
from rarepixel.viz._losses import criteria, value_of

from ..train.toys import Spots, toy

pytestmark = pytest.mark.filterwarnings("ignore:all background")


def test_losses_are_as_at_their_step() -> None:
    specs = {"falls": "top_k", "two": "two_stage"}
    values = []
    for step in (0, 30, 59, 60):
        made = subjects.made(specs, steps=60, step=step, activation="sigmoid")
        falls, two = made["falls"], made["two"]
        assert isinstance(falls, TopKLoss)
        assert isinstance(two, TwoStage)
        assert two.stage == (1 if step < 40 else 2)
        assert two.iteration == min(step, 59)
        values.append(falls.schedule.value.item())
    assert values == pytest.approx([0.14, 0.07, 0.014, 0.014])  # after the last step as for it


def test_the_loss_of_the_scene_is_that_of_the_validation(run: Path) -> None:
    trained = subjects.Trained(Run(run))
    images = images_of_split(trained.run, "validation")
    losses = []
    for one in images:
        scene = scene_of_run(trained, one)
        made = subjects.made({"own": "bce"}, steps=12, step=12, activation="sigmoid")
        losses.append(value_of(criteria(made)["own"], scene.logits, scene.target[None], scene.mask[None]).item())
        assert scene.photo is None  # noise of both signs
        assert torch.equal(trained.predictor(one.image, one.mask), scene.logits[0])
    bce = Run(run.parents[1] / "bce/seed-0")
    trained = subjects.Trained(bce)
    losses = [
        value_of(
            criteria(trained.losses({"own": "bce"}))["own"],
            scene.logits, scene.target[None], scene.mask[None],
        ).item()
        for scene in (scene_of_run(trained, one) for one in images)
    ]  # fmt: skip
    assert sum(losses) / len(losses) == pytest.approx(bce.metrics["last"]["loss"], rel=1e-5)


def test_which_step_weights_are_of(run: Path) -> None:
    assert subjects.Trained(Run(run)).step == 12
    assert subjects.Trained(Run(run), "4").step == 4
    assert subjects.Trained(Run(run), "best").step == Run(run).metrics["best"]["step"]
    assert subjects.Trained(Run(run), str(run / "snapshots/step-00000008.pt")).step == 8
    assert [label for label, _ in subjects.checkpoints_of(Run(run), "x")] == ["step 0", "step 4", "step 8", "step 12"]


def test_the_image_is_the_median_one() -> None:
    class Some(Spots):
        def read(self, index: int) -> Any:
            one = super().read(index)
            target = torch.zeros_like(one.target)
            target[0, 5, : [0, 9, 3, 5, 0][index]] = True
            return one._replace(target=target, mask=torch.ones_like(one.mask))

    images: Images = Some("train").select([f"spots_0{number}" for number in range(5)])
    assert subjects.image_named(images, None, 0).name == "spots_03"
    assert subjects.image_named(images, "spots_01", 0).name == "spots_01"
    assert subjects.image_named(images.select(["spots_00"]), None, 0).name == "spots_00"  # without any


def test_samples_are_what_the_network_takes(run: Path) -> None:
    trained = subjects.Trained(Run(run))
    images = images_of_split(trained.run, "train")
    samples = trained.samples(images, 3)
    assert len(trained.samples(images, 99)) == 6
    for place, (image, target, mask) in zip((0, 2, 5), samples, strict=True):
        one = images[place]
        assert image.shape == (1, 1, 40, 48)
        assert torch.equal(target[0], one.target)
        assert torch.equal(mask[0], one.mask)
        assert torch.equal(trained.predictor.network(image).detach(), trained.predictor.logits(one.image, one.mask))


def test_names_of_losses() -> None:
    long = "two_stage:switch_at=7:first={top_k: {k: 0.05, balance: image}}"
    assert list(subjects.named_losses(f"{long},bce,top_k:k=0.05")) == ["two_stage", "bce", "top_k:k=0.05"]
    assert next(iter(subjects.named_losses(["two_stage:switch_at=7", long]))) == "two_stage:switch_at=7"
    assert len(subjects.named_losses(["two_stage:switch_at=7", long])) == 2
    assert subjects.named_losses({"mine": long}) == {"mine": long}
    for losses, text in (("bce,top_k,bce", "expected each once, got bce twice"), (" ", "at least one, got none")):
        with pytest.raises(ValueError, match=text):
            subjects.named_losses(losses)


def test_frames_that_are_left() -> None:
    many = [(str(step), Path(str(step))) for step in range(100)]
    found = subjects.thinned(many, 25)
    assert (len(found), found[0], found[-1]) == (25, many[0], many[-1])
    assert subjects.thinned(many[:7], 25) == many[:7]


def test_default_losses(run: Path, compared: Path) -> None:
    of_run, of_both = subjects.subject_of(run), subjects.subject_of(compared)
    assert list(subjects.losses_of(of_run, None, others=True)) == ["top_k", "bce", "random_drop:log", "dice"]
    assert list(subjects.losses_of(of_run, None, others=False)) == ["top_k"]
    assert dict(subjects.losses_of(of_both, None, others=True)) == {"Top-k": "top_k", "BCE": "bce"}
    assert list(subjects.losses_of(of_both, "bce,top_k:k=0.05", others=True)) == ["bce", "top_k:k=0.05"]
    assert of_both.run.folder == run


SOFTMAX = ["--activation", "softmax"]
DRAWN = [
    (["--data.dataset", "tests.train.toys.Spots:classes=2:size=[39,45]"], {"of_class": "HE"}, (39, 45)),
    (["--data.dataset", "tests.train.toys.Spots:classes=2", *SOFTMAX], {"of_class": "HE"}, (40, 48)),
    (["--data.dataset", "tests.train.toys.Spots:size=[8,16,16]", "--data.patch", "null"], {}, (8, 16, 16)),
    (["--data.dataset", "tests.train.toys.Vessels", "--loss", "joint", "--data.positive", "0"], {}, (40, 48)),
]


@pytest.mark.parametrize(("overrides", "how", "size"), DRAWN, ids=["classes", "softmax", "volumes", "vessels"])
def test_any_network(tmp_path: Path, overrides: list[str], how: dict[str, Any], size: tuple[int, ...]) -> None:
    short = ["--steps", "2", "--validate_every", "2", "--checkpoint_every", "2"]
    run = train("demo", tmp_path / "run", toy(tmp_path, *short, *overrides))
    found = see.pixels(run.folder, losses=None if "joint" in overrides else "top_k,bce", formats=["npz"], **how)
    assert found.files[0] == run.folder / "see/pixels.npz"
    own = found.drawn.loss_names[0]
    assert own == ("joint" if "joint" in overrides else "top_k")
    assert found.drawn.gradients[own].shape == size
    of_image = subjects.image_named(images_of_split(run, "validation"), None, 1 if how else 0)
    assert torch.equal(torch.as_tensor(found.drawn.target), of_image.target[1 if how else 0])
    assert torch.equal(torch.as_tensor(found.drawn.mask), of_image.mask[0])
    assert sum(found.drawn.shares["bce"].values()) == pytest.approx(1)
    curves = see.training(run.folder, formats=["csv"], **how).drawn
    assert curves.of_class == how.get("of_class", "")


def test_squared_error_of_the_second_stage() -> None:
    made = subjects.made({"two": "two_stage"}, steps=12, step=12, activation="sigmoid")["two"]
    assert isinstance(made, TwoStage)
    assert isinstance(made.second, SquaredErrorLoss)
