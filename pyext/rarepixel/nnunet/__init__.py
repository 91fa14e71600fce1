"""The losses in nnU-Net: trainers that it finds, and what makes a loss of ours one of a trainer's.

.. code-block:: bash

    export nnUNet_extTrainer=$(rarepixel nnunet path)
    nnUNetv2_train 501 2d 0 -tr nnUNetTrainerScheduledTopK

Training needs nnU-Net, 2.8 or newer: ``pip install 'rarepixel[nnunet]'``. Everything here but ``RarePixelTrainer``
works without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exporting import export_model
from .folder import trainer_folder, trainers
from .loss import NnunetLoss, nnunet_loss
from .parts import SquaredErrorPerPositive

if TYPE_CHECKING:
    from .trainers.rarepixel_trainers import RarePixelTrainer

__all__ = [
    "NnunetLoss",
    "RarePixelTrainer",
    "SquaredErrorPerPositive",
    "export_model",
    "nnunet_loss",
    "trainer_folder",
    "trainers",
]


def __getattr__(name: str) -> Any:
    # The one that needs nnU-Net, whose import takes seconds.
    if name != "RarePixelTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .trainers.rarepixel_trainers import RarePixelTrainer
    except ImportError as error:
        raise ImportError(
            f"rarepixel.nnunet.RarePixelTrainer needs nnU-Net, 2.8 or newer: pip install 'rarepixel[nnunet]' ({error})",
            name=error.name,
        ) from error
    return RarePixelTrainer
