"""Each shipped recipe trains on drawn data in its release's layout; Red-Seg's first steps are its Caffe net's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from rarepixel._whole_files import read_tensors
from rarepixel.data import Annotated, Batch, IDRiD
from rarepixel.train import Run, shipped_recipes, train
from rarepixel.train.task import Task

from ..data.conftest import drive, idrid

RED_SEG = Path(__file__).parents[2] / "examples/caffe/red_seg"
SMALL = ["--steps", "3", "--validate_every", "3", "--checkpoint_every", "2"]


def volumes(root: Path) -> Path:
    dice = np.random.default_rng(0)
    for number in range(5):
        mask = np.zeros((24, 24, 24), dtype=np.uint8)
        mask[4 + number : 9 + number, 6:12, 7:15] = 1
        for folder, values in (("images", mask + dice.normal(0, 0.2, mask.shape)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), root / folder / f"{number}.nii.gz")
    return root


def dataset(name: str, root: Path) -> list[str]:
    """Drawn data, and what has to be smaller for them."""
    small_unet = "unet:channels=[4,8,8]"
    if name == "demo":
        return ["--data.patch", "64", "--model", "small_unet:widths=[4,8]"]
    if name == "redseg-idrid":
        return ["--data.root", str(idrid(root, 2, 1)), "--data.dataset", "idrid:lesions=[MA,HE]"]
    if name == "segment-drive":
        return [
            "--data.root",
            str(drive(root)),
            "--model",
            "segment_net:width=0.03125",
            "--data.batch",
            "2",
            "--window",
            "64",
        ]
    if name == "random-drop-idrid":
        return [
            "--data.root",
            str(idrid(root, 2, 1)),
            "--data.dataset",
            "idrid:lesions=[MA]",
            "--data.patch",
            "32",
            "--model",
            small_unet,
        ]
    if name == "unified-focal-2d":
        return ["--data.root", str(drive(root)), "--data.patch", "64", "--model", small_unet]
    if name == "unified-focal-3d":
        return ["--data.root", str(volumes(root)), "--data.patch", "16", "--window", "16", "--model", small_unet]
    od = "{idrid: {lesions: [MA]}}"  # the drawn ones have no optic disc
    return ["--data.root", str(idrid(root, 2, 1)), "--data.dataset", od, "--data.patch", "64", "--model", small_unet]


@pytest.mark.filterwarnings("ignore:all background")
@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_three_steps(name: str, tmp_path: Path) -> None:
    overrides = [*SMALL, "--data.cache", str(tmp_path / "cache"), *dataset(name, tmp_path / "data")]
    run = train(name, tmp_path / "run", overrides)
    assert run.is_finished
    assert [row["step"] for row in run.training] == [1, 2, 3]
    assert all(0 < row["loss"] < 1e5 for row in run.training)
    assert len(run.validation) == 1


class Whole(IDRiD):
    """All pixels count, as in Caffe."""

    def read(self, index: int) -> Annotated:
        one = super().read(index)
        return one._replace(mask=torch.ones_like(one.mask))


def test_the_first_steps_of_red_seg_are_those_of_caffe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same losses, and from the same weights the same weights: the paper's rate goes with its summed losses.

    In double: in float32 sums that nearly cancel, of which gradients of biases are made, differ with the processor.
    """
    pytest.importorskip("google.protobuf")
    from rarepixel import caffe

    batches: list[Batch] = []
    step = Task.training_step

    def kept(task: Task, batch: Batch, batch_idx: int) -> Any:
        batches.append(batch)
        return step(task, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", kept)
    data = f"{{{__name__}.Whole: {{lesions: [MA, HE]}}}}"
    overrides = [
        *SMALL,
        "--precision",
        "64",
        "--snapshots",
        "3",
        "--data.cache",
        str(tmp_path / "cache"),
        "--data.dataset",
        data,
    ]
    run = train("redseg-idrid", tmp_path / "run", [*overrides, "--data.root", str(idrid(tmp_path / "data", 3, 1))])
    first, last = read_tensors(run.weights_path("0")), read_tensors(run.weights_path("3"))
    net = caffe.load_net(RED_SEG / "train.prototxt", phase="train").double()
    solver = caffe.load_solver(RED_SEG / "solver.prototxt", net)
    own = net.state_dict()
    net.load_state_dict({**own, **{name: value for name, value in first.items() if name in own}})
    losses = []
    for batch in batches[:3]:
        labels = {"label_ma": batch.target[:, :1].double(), "label_he": batch.target[:, 1:].double()}
        losses.append(float(solver.step({"data": batch.image.double().contiguous(), **labels})))
    assert [row["loss"] for row in run.training] == pytest.approx(losses, rel=1e-9)
    moved = 0.0
    for name, weights in net.state_dict().items():
        if name not in first or name.startswith("up_"):
            continue
        change, expected = last[name] - first[name], weights - first[name]
        scale = float(expected.abs().max())
        moved = max(moved, scale)
        # Two roundings of the weights themselves, which are much larger than what three steps change.
        rounding = 2 * torch.finfo(torch.float64).eps * float(first[name].abs().max())
        torch.testing.assert_close(change, expected, rtol=1e-6, atol=1e-6 * scale + rounding)
    assert moved > 1e-5  # the weights did move


def test_the_run_says_what_it_trained_on(tmp_path: Path) -> None:
    run = train(
        "random-drop-idrid",
        tmp_path / "run",
        [
            *SMALL,
            "--steps",
            "1",
            "--data.cache",
            str(tmp_path / "cache"),
            *dataset("random-drop-idrid", tmp_path / "data"),
        ],
    )
    assert run.about["dataset"] == "IDRiD"
    assert run.about["data"]["train"]["names"] == ["IDRiD_01", "IDRiD_02"]
    assert run.about["data"]["validation"]["names"] == ["IDRiD_55"]
    assert any("thresholding" in note for note in run.about["notes"])
    assert len(run.about["prevalence"]) == 1
    assert Run(run.folder).recipe == run.recipe
