"""Toy data sets for nnU-Net, and trainings of seconds on them: ``python -m tests.frameworks.nnunet_toys FOLDER``.

Everything runs in one process and a fork of it, since nnU-Net takes seconds to import: its pools of processes are pools
of threads here. Data sets and networks are tiny, a training has two epochs of four iterations, and each step's place in
its schedule goes into a file beside the checkpoints. All else is nnU-Net's own, from its command line on.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import multiprocessing.pool
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from rarepixel.nnunet import trainer_folder

EPOCHS, ITERATIONS = 2, 4
# Number, name, configuration, what there is beside labels, and the trainer that gets it.
TOYS = (
    (901, "Labels", "2d", set(), "nnUNetTrainerScheduledTopK"),
    (902, "Ignore", "2d", {"ignore"}, "nnUNetTrainerSegmentThickness"),
    (903, "Regions", "3d_fullres", {"regions"}, "nnUNetTrainerDiceRandomDrop"),
    (904, "Both", "3d_fullres", {"regions", "ignore"}, "nnUNetTrainerFusedDiceCE"),
)
LOADERS = "nnUNet_n_proc_DA"
CASES = 5  # as many as nnU-Net's folds


def use_folder(folder: Path) -> None:
    """Has to come before nnU-Net is imported."""
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    os.environ |= {
        **{"nnUNet_extTrainer": str(trainer_folder()), LOADERS: "1", "nnUNet_def_n_proc": "1"},
        **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    }
    torch.set_num_threads(1)


def draw(folder: Path, number: int, name: str, configuration: str, kinds: set[str]) -> Path:
    """A data set of bright spots of two sizes and brightnesses on noise, as TIFF files."""
    import tifffile

    dataset = folder / "raw" / f"Dataset{number}_{name}"
    for part in ("imagesTr", "labelsTr"):
        (dataset / part).mkdir(parents=True)
    shape = (40, 40) if configuration == "2d" else (20, 20, 20)
    random = np.random.default_rng(number)
    for case in range(CASES):
        labels = np.zeros(shape, np.uint8)
        for _ in range(4):
            corner = [random.integers(2, size - 6) for size in shape]
            labels[tuple(slice(at, at + 4) for at in corner)] = 1
            labels[tuple(slice(at + 1, at + 3) for at in corner)] = 2
        image = random.normal(0, 1, shape) + 3 * labels
        if "ignore" in kinds:
            labels[: shape[0] // 4] = 3
        tifffile.imwrite(dataset / "imagesTr" / f"case{case}_0000.tif", image.astype(np.float32))
        tifffile.imwrite(dataset / "labelsTr" / f"case{case}.tif", labels)
        if len(shape) == 3:
            for path in (dataset / "imagesTr" / f"case{case}.json", dataset / "labelsTr" / f"case{case}.json"):
                path.write_text('{"spacing": [1, 1, 1]}')
    labels = {"whole": [1, 2], "core": 2} if "regions" in kinds else {"rim": 1, "core": 2}
    description = {
        **{"channel_names": {"0": "noise"}, "numTraining": CASES, "file_ending": ".tif"},
        "labels": {"background": 0, **labels, **({"ignore": 3} if "ignore" in kinds else {})},
        **({"regions_class_order": [1, 2]} if "regions" in kinds else {}),
    }
    (dataset / "dataset.json").write_text(json.dumps(description))
    return dataset


def plan(folder: Path, number: int, name: str, configuration: str) -> None:
    """nnU-Net's plans, with a smaller network and smaller patches than it would dare."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    api.extract_fingerprints([number], num_processes=1, check_dataset_integrity=True)
    api.plan_experiments([number])
    path = folder / "preprocessed" / f"Dataset{number}_{name}" / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    chosen = plans["configurations"][configuration]
    dimensions = len(chosen["patch_size"])
    chosen |= {"patch_size": [32, 32] if dimensions == 2 else [16, 16, 16], "batch_size": 2}
    chosen["architecture"]["arch_kwargs"] |= {
        **{"n_stages": 3, "features_per_stage": [4, 8, 8], "n_conv_per_stage": [1, 1, 1]},
        **{"n_conv_per_stage_decoder": [1, 1], "kernel_sizes": [[3] * dimensions] * 3},
        "strides": [[1] * dimensions, [2] * dimensions, [2] * dimensions],
    }
    plans["configurations"] = {configuration: chosen}
    path.write_text(json.dumps(plans))
    api.preprocess([number], configurations=[configuration], num_processes=[1])


def shorten() -> None:
    """Short trainings, and a line a step of where the loss is, the value of its schedules among it."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from rarepixel.schedules import Schedule

    make, step = nnUNetTrainer.__init__, nnUNetTrainer.train_step

    @functools.wraps(make)
    def made(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = EPOCHS, ITERATIONS, 2
        self.save_every = 1

    def recorded(self: Any, batch: Any) -> Any:
        values = [one.value.item() for one in self.loss.modules() if isinstance(one, Schedule)]
        result = step(self, batch)
        with (Path(self.output_folder) / "steps.jsonl").open("a") as file:
            line = {"epoch": self.current_epoch, "iteration": self.loss.iteration, "schedules": values}
            file.write(json.dumps({**line, "loss": float(result["loss"])}) + "\n")
        if "TOY_SECONDS" in os.environ:
            time.sleep(float(os.environ["TOY_SECONDS"]))
        return result

    nnUNetTrainer.__init__, nnUNetTrainer.train_step = made, recorded


def use_threads() -> None:
    """Threads where nnU-Net would start processes, each of which would import it again."""

    def context(method: str | None = None) -> Any:
        found = own(method)
        return SimpleNamespace(Pool=multiprocessing.pool.ThreadPool, Manager=found.Manager, Process=found.Process)

    own: Callable[..., Any] = multiprocessing.get_context
    multiprocessing.get_context = context  # type: ignore[assignment]


def train(number: int, configuration: str, trainer: str, *more: str) -> None:
    """``nnUNetv2_train`` on the CPU."""
    from nnunetv2.run import run_training

    os.environ[LOADERS] = "0"  # which its planner does not survive
    sys.argv = ["nnUNetv2_train", str(number), configuration, "0", "-tr", trainer, "-device", "cpu", *more]
    multiprocessing.cpu_count = lambda: 1  # as many threads it takes
    run_training.run_training_entry()


def predict(model: Path, image: Path, output: Path) -> None:
    """What ``nnUNetv2_predict_from_modelfolder`` does, one after the other."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    output.parent.mkdir(exist_ok=True)
    predictor.predict_from_files_sequential([[str(image)]], [str(output)])


def in_fork(run: Callable[[], None], log: Path) -> int:
    """The number of a process that runs it, what it prints in a file."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            run()
            status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def model_folder(folder: Path, number: int, name: str, configuration: str, trainer: str) -> Path:
    return folder / "results" / f"Dataset{number}_{name}" / f"{trainer}__nnUNetPlans__{configuration}"


def kill_and_continue(folder: Path) -> None:
    """The first toy's training once more, killed in its second epoch after two steps, and continued."""
    number, name, configuration, _, trainer = TOYS[0]
    model = model_folder(folder, number, name, configuration, trainer)
    model.rename(folder / "whole")
    os.environ["TOY_SECONDS"] = "0.3"
    child = in_fork(lambda: train(number, configuration, trainer), folder / "killed.log")
    del os.environ["TOY_SECONDS"]
    steps = model / "fold_0" / "steps.jsonl"
    while not (steps.exists() and len(steps.read_text().splitlines()) >= ITERATIONS + 2):
        if os.waitpid(child, os.WNOHANG)[0]:
            raise SystemExit("the training ended before it was killed")
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    steps.rename(steps.with_name("before.jsonl"))
    train(number, configuration, trainer, "--c")


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    use_folder(folder)
    use_threads()
    shorten()
    for number, name, configuration, kinds, trainer in TOYS:
        dataset = draw(folder, number, name, configuration, kinds)
        os.environ[LOADERS] = "1"
        plan(folder, number, name, configuration)
        train(number, configuration, trainer)
        model = model_folder(folder, number, name, configuration, trainer)
        predict(model, dataset / "imagesTr" / "case0_0000.tif", folder / "predictions" / name)
    kill_and_continue(folder)


if __name__ == "__main__":
    main()
