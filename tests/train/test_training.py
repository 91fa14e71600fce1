"""Trainings on drawn spots: what they leave behind, how they go on, and how they end early."""

from __future__ import annotations

import errno
import json
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rarepixel._whole_files import read_tensors
from rarepixel.data import Annotated, Images, normalise
from rarepixel.train import Data, NotFiniteError, Recipe, RecipeError, Run, RunError, Stopped, train
from rarepixel.train.loading import validation_loader

from .toys import Spots, Vessels, toy

Train = Callable[..., Run]
INSTANCE_NORM = ("--model", "basic_unet:features=[4,4,8,8,8,4]")


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.training]


def test_a_run_leaves_all_that_is_needed(train_toy: Train) -> None:
    run = train_toy("run", "--snapshots", "4")
    assert sorted(path.name for path in run.checkpoints()) == ["step-00000005.ckpt", "step-00000010.ckpt"]
    names = sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*.pt"))
    snapshots = [f"snapshots/step-{step:08}.pt" for step in (0, 4, 8, 12)]
    assert names == [*snapshots, "weights/best.pt", "weights/last.pt"]
    assert [row["step"] for row in run.training] == list(range(1, 13))
    assert run.training[-1]["loss"] < run.training[0]["loss"]
    assert [row["step"] for row in run.validation] == [6, 12]
    assert run.is_finished
    assert run.metrics["last"] == run.validation[-1]
    assert run.metrics["best"] == max(run.validation, key=lambda row: row["average_precision"])
    about = run.about
    assert about["classes"] == ["MA"]
    assert about["data"]["train"]["names"] == [f"spots_{number:02}" for number in range(6)]
    assert len(about["data"]["validation"]["digest"]) == 64
    assert {"rarepixel", "torch", "lightning", "monai", "python"} <= about["versions"].keys()
    assert run.recipe.steps == 12


def test_the_same_seed_gives_the_same_run_and_another_another(train_toy: Train) -> None:
    one, same, other = train_toy("one"), train_toy("same"), train_toy("other", "--seed", "1")
    assert losses(one) == losses(same) != losses(other)
    assert one.validation == same.validation


def test_workers_change_nothing(train_toy: Train) -> None:
    assert losses(train_toy("none")) == losses(train_toy("two", "--data.workers", "2"))


def test_a_finished_run_stays_as_it_is(train_toy: Train) -> None:
    run = train_toy("run")
    before = {
        path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file() and path.name != ".lock"
    }
    train_toy("run")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_accumulated_batches_are_one(train_toy: Train) -> None:
    whole = train_toy("whole", *INSTANCE_NORM, "--data.batch", "4", "--steps", "5")
    parts = train_toy("parts", *INSTANCE_NORM, "--data.batch", "4", "--steps", "5", "--accumulate", "2")
    torch.testing.assert_close(torch.tensor(losses(whole)), torch.tensor(losses(parts)), rtol=1e-5, atol=1e-6)
    assert [row["learning_rate"] for row in whole.training] == [row["learning_rate"] for row in parts.training]


# ---- Everything trains ----


FLAT = pytest.mark.filterwarnings("ignore:all background")  # after so few steps


@FLAT
@pytest.mark.parametrize(
    "overrides",
    [
        ["--loss", "bce", "--prior_start", "true"],
        ["--loss", "random_drop:log"],
        ["--loss", "unified_focal", "--activation", "softmax"],
        ["--loss", "monai.losses.DiceCELoss:sigmoid=true"],
        ["--loss", "two_stage", "--precision", "bf16"],
        ["--loss", "bin_loss", "--clip", "0.1", "--schedule", "polynomial", "--optimizer", "sgd:lr=0.1:momentum=0.9"],
        ["--loss", "dice", "--precision", "64", "--schedule", "step:at=[2]"],
        ["--loss", "dice", "--schedule", "plateau:patience=0", "--validate_every", "1"],
        ["--model", "dynunet", "--loss", "top_k"],
        ["--model", "dynunet", "--loss", "{deep_supervision: {loss: dice, resize: any}}"],
        ["--data.patch", "null", "--data.batch", "1", "--loss", "top_k"],
        ["--window", "32", "--loss", "top_k"],
    ],
    ids=lambda overrides: " ".join(overrides[:4]),
)
def test_losses_models_and_switches(train_toy: Train, overrides: list[str]) -> None:
    run = train_toy("run", "--steps", "3", "--validate_every", "3", *overrides)
    assert run.is_finished
    assert all(0 < value < 100 for value in losses(run))


@FLAT
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("loss", ["top_k", "unified_focal", "multi_channel_bin"])
def test_several_classes(train_toy: Train, activation: str, loss: str) -> None:
    data = "{tests.train.toys.Spots: {classes: 3, channels: 3}}"
    run = train_toy(
        "run",
        "--data.dataset",
        data,
        "--steps",
        "3",
        "--validate_every",
        "3",
        "--activation",
        activation,
        "--loss",
        loss,
    )
    row = run.validation[-1]
    of_classes = [row[f"average_precision_{name}"] for name in ("MA", "HE", "EX")]
    assert row["average_precision"] == pytest.approx(sum(of_classes) / 3)
    outputs = read_tensors(run.weights_path("last"))["head.weight"].shape[0]
    assert outputs == 3 + (activation == "softmax")


def test_volumes(train_toy: Train) -> None:
    data = "{tests.train.toys.Spots: {size: [20, 24, 24]}}"
    run = train_toy(
        "run",
        *("--data.dataset", data, "--data.patch", "16", "--model", "unet:channels=[4,8]:strides=[2]"),
        *("--steps", "3", "--validate_every", "3", "--window", "16", "--data.augment", "[flips]"),
    )
    assert run.is_finished
    assert run.about["spatial_dims"] == 3


def test_vessels_with_both_heads(train_toy: Train) -> None:
    common = ("--data.dataset", "tests.train.toys.Vessels", "--steps", "4", "--validate_every", "4")
    model = ("--model", "segment_net:width=0.03125", "--data.augment", "[flips]")
    one_head = train_toy("one", *common, "--loss", "{joint: {pixel: bce}}")
    heads = train_toy("both", *common, *model, "--loss", "{joint: {pixel: bce}}")
    turns = train_toy("turns", *common, *model, "--loss", "{joint: {pixel: bce, alternate: true}}")
    assert one_head.is_finished
    assert heads.is_finished
    assert turns.is_finished
    assert losses(heads) != losses(turns)


def test_red_seg(train_toy: Train) -> None:
    data = "{tests.train.toys.Spots: {classes: 2, channels: 3}}"
    run = train_toy(
        "run",
        *("--data.dataset", data, "--data.patch", "null", "--data.batch", "1", "--model", "red_seg", "--loss", "top_k"),
        *("--steps", "2", "--validate_every", "2", "--optimizer", "sgd:lr=1e-5", "--checkpoint_every", "2"),
    )
    assert run.is_finished
    assert all(value > 3 for value in losses(run))  # the sum of eight


def test_compiled(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = train_toy("eager", "--steps", "3", "--validate_every", "3")
    whole, calls = torch.nn.Module.compile, []

    def quickly(network: torch.nn.Module) -> None:
        calls.append(network)
        whole(network, backend="aot_eager")  # Inductor takes a minute

    monkeypatch.setattr(torch.nn.Module, "compile", quickly)
    compiled = train_toy("compiled", "--steps", "3", "--validate_every", "3", "--compile", "true")
    torch.testing.assert_close(torch.tensor(losses(eager)), torch.tensor(losses(compiled)), rtol=1e-3, atol=1e-4)
    assert len(calls) == 1
    assert read_tensors(compiled.weights_path("last")).keys() == read_tensors(eager.weights_path("last")).keys()


# ---- Going on ----


class Signalling(Spots):
    """Sends the process a signal when an image is read."""

    def __init__(self, split: str = "all", at: str = "spots_03", signum: int = int(signal.SIGTERM)) -> None:
        super().__init__(split)
        self.at, self.signum, self.armed = at, signum, True

    def read(self, index: int) -> Annotated:
        if os.environ.get("ARMED") and self.names[index] == self.at:
            os.environ.pop("ARMED")
            os.kill(os.getpid(), self.signum)
        return super().read(index)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_stops(train_toy: Train, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals) -> None:
    data = f"{{{__name__}.Signalling: {{signum: {int(signum)}}}}}"
    overrides = ("--data.dataset", data, "--data.memory", "0", "--data.normalise", "none")
    whole = train_toy("whole", *overrides)
    before = signal.getsignal(signum)
    fit = torch.utils.data.DataLoader.__iter__

    def armed(loader: Any) -> Any:
        os.environ["ARMED"] = "1"
        return fit(loader)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", armed)
    with pytest.raises(Stopped) as stopped:
        train_toy("stopped", *overrides)
    monkeypatch.undo()
    os.environ.pop("ARMED", None)
    assert 0 < stopped.value.step < 12
    assert stopped.value.signum == signum
    assert str(stopped.value).endswith(f"go on with: rarepixel train {stopped.value.folder}")
    assert signal.getsignal(signum) is before
    run = Run(stopped.value.folder)
    assert run.newest_checkpoint() == (run.checkpoint_path(stopped.value.step), stopped.value.step)
    assert run.weights_path("last").is_file()
    assert not run.is_finished
    again = train(run.folder)
    assert again.is_finished
    assert again.path("training.csv").read_text() == whole.path("training.csv").read_text()
    assert again.validation == whole.validation


def interrupted(train_toy: Train, monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> Run:
    """A run that ends without a word at a step, as if the power had failed."""
    from rarepixel.train.keeping import Keeper

    whole = Keeper.on_train_batch_start

    def failing(self: Keeper, trainer: Any, *arguments: Any) -> None:
        whole(self, trainer, *arguments)
        if trainer.global_step == at:
            raise SystemExit("power")

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "on_train_batch_start", failing)
        with pytest.raises(SystemExit):
            train_toy(name)
    return train_toy_folder(train_toy, name)


def train_toy_folder(train_toy: Any, name: str) -> Run:
    folder = next(cell.cell_contents for cell in train_toy.__closure__ if isinstance(cell.cell_contents, Path))
    return Run(folder / name)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    train_toy: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_toy("whole", "--checkpoint_every", "5")
    for damage in ("cut", "flipped"):
        run = interrupted(train_toy, monkeypatch, damage, 11)
        newest = run.checkpoint_path(10)
        content = newest.read_bytes()
        assert run.newest_checkpoint() == (newest, 10)
        if damage == "cut":
            newest.write_bytes(content[: len(content) // 2])
        else:
            middle = len(content) // 2
            newest.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
        with pytest.warns(UserWarning, match=r"step-00000010.ckpt: .*; the checkpoint before it is used"):
            again = train_toy(damage)
        assert again.path("training.csv").read_text() == whole.path("training.csv").read_text()


def test_a_full_disk_costs_a_checkpoint_and_no_more(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_toy("whole")
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if "step-00000010.ckpt" in path.name:
            calls.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(
        UserWarning, match=r"step-00000010.ckpt: cannot be written .*No space left.*the training goes on"
    ):
        run = train_toy("full")
    assert len(calls) == 1
    assert [path.name for path in run.checkpoints()] == ["step-00000005.ckpt"]
    assert list(run.folder.rglob("*.tmp")) == []
    assert losses(run) == losses(whole)


def test_what_no_loss_depends_on_may_change(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_toy("whole")
    interrupted(train_toy, monkeypatch, "run", 7)
    changes = ("--data.workers", "1", "--checkpoint_every", "2", "--title", "other", "--data.memory", "1.0")
    again = train_toy("run", *changes)
    assert again.recipe.data.workers == 1
    assert again.path("training.csv").read_text() == whole.path("training.csv").read_text()


def test_a_start_that_failed_leaves_the_folder_free(train_toy: Train) -> None:
    with pytest.raises(ValueError, match="did you mean 'top_k'"):
        train_toy("run", "--loss", "topk")
    assert train_toy("run", "--loss", "top_k").is_finished


def test_lost_rows_and_leftovers_are_noticed(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    run = interrupted(train_toy, monkeypatch, "run", 7)
    run.path("training.csv").unlink()
    leftover = run.path("checkpoints", ".step-00000010.ckpt.77.tmp")
    leftover.write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"training.csv: expected a row of each of the 5 steps before, got 0"):
        again = train_toy("run")
    assert [row["step"] for row in again.training] == list(range(6, 13))
    assert not leftover.exists()


def test_damaged_files_are_named(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    run = interrupted(train_toy, monkeypatch, "run", 7)
    whole = {name: run.path(name).read_bytes() for name in ("metrics.json", "run.json", "training.csv")}
    for name, content, text in (
        ("metrics.json", b"[]", "expected a JSON object, got list"),
        ("run.json", b"", "Expecting value"),
        ("training.csv", b"step,loss,learning_rate\n1,x,2\n", "expected a table of numbers"),
    ):
        run.path(name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: damaged: .*{text}"):
            train_toy("run")
        run.path(name).write_bytes(whole[name])
    run.checkpoint_path(5).write_bytes(b"garbage")
    with (
        pytest.warns(UserWarning, match="the checkpoint before it is used"),
        pytest.warns(UserWarning, match="no checkpoint is whole: the training begins anew"),
    ):
        assert train_toy("run").is_finished


def test_a_run_may_be_moved(train_toy: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its data, too: a root is kept whole, and may be said anew."""
    from ..data.conftest import idrid

    root = idrid(tmp_path / "data", 2, 1)
    monkeypatch.chdir(tmp_path)
    small = ["--data.dataset", "idrid:lesions=[MA]", "--data.root", "data", "--data.augment", "[]"]
    run = train_toy("run", *small, "--steps", "2")
    assert run.recipe.data.root == str(root)
    run.path("metrics.json").unlink()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    root.rename(moved / "data")
    run.folder.rename(moved / "run")
    monkeypatch.chdir(moved)
    again = train("run", overrides=["--data.root", "data"])
    assert again.is_finished
    assert again.recipe.data.root == str(moved / "data")


def test_a_run_of_another_recipe_is_left_alone(train_toy: Train) -> None:
    run = train_toy("run")
    with pytest.raises(RunError, match=r"holds a run with steps 12, not 20; seed 0, not 3\. Choose another folder"):
        train_toy("run", "--steps", "20", "--seed", "3")
    with pytest.raises(RunError, match="holds a run with seed 0, not 1"):
        train(run.folder, overrides=["--seed", "1"])
    assert run.recipe.steps == 12


def test_folders_that_are_no_runs(train_toy: Train, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("important")
    with pytest.raises(RunError, match="mine: expected an empty folder, or that of a run, got other files"):
        train_toy("mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file: expected a folder, got a file"):
        train_toy("file")
    with pytest.raises(RunError, match=r"mine: expected the folder of a run, with a recipe\.yaml, got none"):
        train(tmp_path / "mine")


def test_changed_data_are_noticed(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(train_toy, monkeypatch, "run", 7)
    monkeypatch.setattr(Images, "digest", "0" * 64)
    with pytest.raises(RunError, match="the train images are not those that the run began with: files were changed"):
        train_toy("run")


def test_one_training_a_folder(train_toy: Train, tmp_path: Path) -> None:
    run = train_toy("run")
    run.path("metrics.json").unlink()
    for path in run.checkpoints():
        path.unlink()
    child = os.fork()
    if child == 0:
        import fcntl
        import time

        lock = run.path(".lock").open("w")
        fcntl.lockf(lock, fcntl.LOCK_EX)
        (tmp_path / "locked").touch()
        time.sleep(60)
        os._exit(0)
    try:
        while not (tmp_path / "locked").exists():
            pass
        with pytest.raises(RunError, match="run: another process is training there"):
            train_toy("run")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# ---- Ending early ----


class Broken(Spots):
    """One image is NaN."""

    def read(self, index: int) -> Annotated:
        one = super().read(index)
        return one._replace(image=one.image * float("nan")) if one.name == "spots_02" else one


def test_a_loss_that_is_not_finite_stops_and_is_kept(train_toy: Train) -> None:
    with pytest.raises(
        NotFiniteError, match=r"the loss of step \d+ is nan, on .*spots_02.*; the batch, and the network"
    ) as found:
        train_toy("run", "--data.dataset", f"{__name__}.Broken", "--data.normalise", "none")
    run = train_toy_folder(train_toy, "run")
    (path,) = run.folder.glob("not-finite-*.pt")
    assert str(path) in str(found.value)
    kept = read_tensors(path)
    assert "spots_02" in kept["names"]
    assert kept["step"] == len(run.training) + 1
    assert kept["image"].isnan().any()
    assert all(torch.isfinite(value).all() for name, value in kept["network"].items() if "running" not in name)


def test_all_background_is_said(train_toy: Train) -> None:
    prior = train_toy("prior", "--prior_start", "true", "--optimizer", "sgd:lr=1e-9", "--loss", "bce")  # no wonder
    flat = ["--pretrained", str(prior.weights_path("last")), "--optimizer", "sgd:lr=1e-9", "--loss", "bce"]
    with pytest.warns(UserWarning, match="all background: after 6 steps no pixel of the validation images"):
        train_toy("flat", *flat)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_toy("not flat")


def test_patience(train_toy: Train) -> None:
    run = train_toy(
        *("run", "--optimizer", "sgd:lr=0.0", "--loss", "dice", "--model", "unet:channels=[4,8]:strides=[2]"),
        *("--validate_every", "2", "--patience", "2", "--monitor", "loss", "--schedule", "constant"),
    )
    assert [row["step"] for row in run.validation] == [2, 4, 6]
    assert run.is_finished
    assert run.metrics["step"] == 6
    assert run.metrics["best"]["step"] == 2


# ---- What cannot be ----


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["--data.validation", "train"], "data.validation: expected other images than in data.train, got spots_00"),
        (["--data.train", "spots_1*"], "expected names or patterns of spots's images"),
        (["--data.dataset", "idrid"], "data.root: expected the folder of idrid, got none"),
        (["--data.dataset", "idird"], "data.dataset: expected one of idrid"),
        (["--model", "small_unett"], "did you mean 'small_unet'?"),
        (["--optimizer", "adamw:lrr=1"], "optimizer adamw: expected one of lr,"),
        (["--schedule", "one_cycl"], "did you mean 'one_cycle'?"),
        (
            ["--loss", "segment_thickness", "--data.dataset", "{tests.train.toys.Spots: {classes: 2}}"],
            "expected one class",
        ),
        (["--data.augment", "[flipz]"], "did you mean"),
        (["--data.normalise", "zcore"], "did you mean 'zscore'?"),
        (["--pretrained", "none.pt"], "none.pt: no such file of weights"),
        (
            ["--monitor", "dise"],
            "monitor: expected one of loss, average_precision, dice, precision, recall, threshold, accuracy_at_half, ",
        ),
        (
            ["--schedule", "plateau", "--data.validation", "null"],
            "schedule plateau: expected images in data.validation",
        ),
        (["--accelerator", "gpu"], "accelerator or devices: "),
        (["--precision", "fp16"], "precision: expected 32, 64 or bf16 without a GPU, got 'fp16'"),
        (["--devices", "3"], "data.batch: expected a number that 3 processes and accumulate = 1 divide, got 2"),
    ],
    ids=lambda one: " ".join(one)[:40] if isinstance(one, list) else "",
)
def test_what_cannot_be(train_toy: Train, overrides: list[str], text: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as found:
        train_toy("run", *overrides)
    assert text in str(found.value)


def test_weights_to_start_from(train_toy: Train, tmp_path: Path) -> None:
    first = train_toy("first")
    checkpoint = first.checkpoint_path(10)
    inside = {
        key.removeprefix("network."): value
        for key, value in read_tensors(checkpoint)["state_dict"].items()
        if key.startswith("network.")
    }
    last = first.weights_path("last")
    for name, path, one in (("weights", last, read_tensors(last)), ("checkpoint", checkpoint, inside)):
        second = train_toy(
            *(name, "--pretrained", str(path), "--steps", "1", "--optimizer", "sgd:lr=0.0", "--snapshots", "1")
        )
        other = read_tensors(second.weights_path("0"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(ValueError, match=r"last.pt: expected weights of SmallUNet, got some with other shapes"):
        train_toy("other", "--pretrained", str(first.weights_path("last")), "--model", "small_unet:widths=[8,16]")
    bad = tmp_path / "bad.pt"
    torch.save({"code": print}, bad)
    with pytest.raises(ValueError, match=r"bad.pt: expected tensors and plain values"):
        train_toy("bad", "--pretrained", str(bad))


def test_a_share_is_held_out(train_toy: Train) -> None:
    run = train_toy("run", "--data.train", "all", "--data.validation", "0.34", "--steps", "1")
    names = {split: run.about["data"][split]["names"] for split in ("train", "validation")}
    assert len(names["train"]) == 6
    assert len(names["validation"]) == 3
    assert not set(names["train"]) & set(names["validation"])
    rest = train_toy("rest", "--data.train", "null", "--data.validation", "['spots_0[0-2]']", "--steps", "1")
    assert rest.about["data"]["train"]["names"] == [f"spots_{number:02}" for number in range(3, 9)]


def test_curves_are_read_back_to_the_last_bit(train_toy: Train) -> None:
    run = train_toy("run")
    step = torch.tensor(run.training[3]["loss"])
    assert step.dtype == torch.float32
    assert json.loads(run.path("metrics.json").read_text())["step"] == 12
    assert Vessels("test").names == Spots("test").names


def test_the_recipe_wins_over_processes(train_toy: Train) -> None:
    with pytest.raises(
        RecipeError, match=r"accumulate: expected a number that data\.batch = 2 can be divided by, got 3"
    ):
        train_toy("run", "--accumulate", "3")


def test_toy_arguments_are_words(tmp_path: Path) -> None:
    assert all(isinstance(word, str) for word in toy(tmp_path))


def test_tensorboard_gets_both_curves(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.loggers.logger import DummyLogger

    from rarepixel.train import trainer

    logged: list[tuple[int, dict[str, float]]] = []

    class Listening(DummyLogger):
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            logged.append((step, metrics))

    monkeypatch.setattr(trainer, "_tensorboard", lambda _: Listening())
    run = train_toy("run", "--steps", "3", "--validate_every", "3")
    expected = [
        (row["step"], {f"training/{name}": value for name, value in row.items() if name != "step"})
        for row in run.training
    ]
    (row,) = run.validation
    expected.append((3, {f"validation/{name}": value for name, value in row.items() if name != "step"}))
    assert logged == expected


@pytest.mark.parametrize(("ranks", "numbers"), [(1, [[0, 1, 2]]), (2, [[0, 2], [1]]), (4, [[0, 1, 2]] * 4)])
def test_every_process_validates_something(ranks: int, numbers: list[list[int]], tmp_path: Path) -> None:
    recipe = Recipe(data=Data(cache=str(tmp_path)))
    for rank, expected in enumerate(numbers):
        loader = validation_loader(
            Spots("test"), recipe, normalise.make("none"), segments=False, rank=rank, ranks=ranks
        )
        assert [batch.names for batch in loader] == [(f"spots_{6 + number:02}",) for number in expected]


def test_weights_that_cannot_be_written_are_no_end(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_toy("whole")
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if "last.pt" in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train_toy("full")
    assert not train_toy_folder(train_toy, "full").is_finished
    again = train_toy("full")
    assert again.is_finished
    assert again.path("training.csv").read_text() == whole.path("training.csv").read_text()
