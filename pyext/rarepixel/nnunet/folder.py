"""The folder that nnU-Net searches for trainers, and what is in it."""

from __future__ import annotations

import ast
from pathlib import Path


def trainer_folder() -> Path:
    """The folder for nnU-Net's environment variable ``nnUNet_extTrainer``. It holds one module, of trainers alone.

    Example:
        >>> trainer_folder().name
        'trainers'
    """
    return Path(__file__).parent / "trainers"


def trainers() -> dict[str, str]:
    """What each trainer is, in a sentence, by its name for ``nnUNetv2_train -tr``. Needs no nnU-Net.

    Example:
        >>> trainers()["nnUNetTrainerScheduledTopK"]
        'Top-k: the hardest 14 % of the negatives count, fewer and fewer of them as training goes on.'
    """
    found = {}
    for path in sorted(trainer_folder().glob("[!_]*.py")):
        # Read and not imported, which would need nnU-Net.
        for one in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(one, ast.ClassDef) and one.name.startswith("nnUNetTrainer"):
                found[one.name] = (ast.get_docstring(one) or "").partition("\n")[0]
    return found
