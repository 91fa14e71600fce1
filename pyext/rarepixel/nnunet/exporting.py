"""Trained models for machines without this package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from .._whole_files import read_tensors, write_tensors
from .folder import trainers

PLAIN = "nnUNetTrainer"


def export_model(model: str | os.PathLike[str], *, own: bool = False) -> list[Path]:
    """Makes a trained model one of nnU-Net's own trainer, so that it predicts where this package is not installed.

    The trainers of this package differ from nnU-Net's in their loss alone, and a network that is trained needs none:
    in each checkpoint ``trainer_name`` becomes ``"nnUNetTrainer"``. Everything else in it stays as it is, the folder
    keeps its name, and a training goes on from it all the same. Needs no nnU-Net.

    Args:
        model: the folder of a trained model, ``.../nnUNetTrainerRandomDrop__nnUNetPlans__2d``, one of its folds, or one
            checkpoint.
        own: also take trainers that are not of this package. They must leave ``build_network_architecture`` alone.

    Returns:
        The checkpoints that were written; those that are of nnU-Net's own trainer already are none.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: a file that is no checkpoint of nnU-Net's, or damaged; a trainer that is not of this package. No
            file is changed then.
    """
    changed = [path for path in _checkpoints(Path(model)) if _trainer_of(path, _read(path), own) != PLAIN]
    for path in changed:
        write_tensors(path, {**_read(path), "trainer_name": PLAIN})
    return changed


def _checkpoints(model: Path) -> list[Path]:
    if model.is_file():
        return [model]
    found = sorted(model.glob("fold_*/checkpoint_*.pth")) or sorted(model.glob("checkpoint_*.pth"))
    found = [path for path in found if not path.name.endswith(".loss.pth")]
    if not found:
        what = "a folder without any" if model.is_dir() else "nothing of that name"
        raise FileNotFoundError(
            f"{model}: expected a trained model of nnU-Net's, with fold_0/checkpoint_final.pth or other checkpoints, "
            f"got {what}"
        )
    return found


def _trainer_of(path: Path, checkpoint: Any, own: bool) -> str:
    name = checkpoint.get("trainer_name") if isinstance(checkpoint, dict) else None
    if not isinstance(name, str) or "network_weights" not in checkpoint:
        got = (
            ", ".join(map(str, checkpoint)) or "nothing" if isinstance(checkpoint, dict) else type(checkpoint).__name__
        )
        raise ValueError(
            f"{path}: expected a checkpoint of nnU-Net's with trainer_name and network_weights, got one of {got}"
        )
    if name != PLAIN and name not in trainers() and not own:
        raise ValueError(
            f"{path}: expected a trainer of `rarepixel nnunet list`, got {name}; if it leaves "
            "build_network_architecture to nnU-Net, say so with --own"
        )
    return name


def _read(path: Path) -> Any:
    """A checkpoint without running code of it: beside tensors and plain values it holds NumPy's numbers and arrays."""
    import numpy as np

    makers: list[Any] = [np.float32(0).__reduce__()[0], np.ones(1).__reduce__()[0]]
    # NumPy 1 writes its old name, which torch does not take for the new one.
    names = [(make, f"numpy.{core}.multiarray.{make.__name__}") for core in ("core", "_core") for make in makers]
    dtypes = [type(np.dtype(code)) for code in "?bhilBHILefd"]
    with torch.serialization.safe_globals([np.dtype, np.ndarray, *dtypes, *names]):
        return read_tensors(path)
