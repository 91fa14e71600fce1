"""``rarepixel nnunet``: trainers for nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._console import messages, say

app = typer.Typer(no_args_is_help=True, help="Trainers for nnU-Net: where they are, what they do, models without them.")


@app.command()
def path() -> None:
    """Print the folder of the trainers, for export nnUNet_extTrainer=$(rarepixel nnunet path)."""
    from .nnunet import trainer_folder

    typer.echo(trainer_folder())  # whole, whatever its name: a shell reads it


@app.command(name="list")
def list_trainers() -> None:
    """Print the trainers by their names, for nnUNetv2_train DATASET CONFIGURATION FOLD -tr NAME."""
    from .nnunet import trainers

    found = trainers()
    width = max(map(len, found))
    for name, sentence in found.items():
        say(f"{name:{width}}  {sentence}")


@app.command()
def export(
    model: Annotated[
        Path,
        typer.Argument(
            help="The folder of a trained model (TRAINER__PLANS__CONFIGURATION), one of its folds, or a checkpoint.",
            exists=True,
            show_default=False,
        ),
    ],
    own: Annotated[
        bool,
        typer.Option("--own", help="Also of your own trainer. It must leave build_network_architecture to nnU-Net."),
    ] = False,
) -> None:
    """Make a trained model one of nnU-Net's own trainer, so that it predicts where rarepixel is not installed."""
    with messages():
        from .nnunet import export_model

        changed = export_model(model, own=own)
    for one in changed:
        say(f"{one}: trainer_name is nnUNetTrainer now")
    if not changed:
        say(f"{model}: of nnUNetTrainer already, nothing to do")
