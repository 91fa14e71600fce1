"""A loss of ours as that of an nnU-Net trainer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._stepping import Counting, advance, has_own_step, place
from .._whole_files import read_tensors, write_tensors
from ..losses import DeepSupervision
from ..schedules import Constant
from .head import THICKNESS, Head, OnHead
from .making import LossLike, Plans
from .parts import Sum


class NnunetLoss(Counting):
    """What nnU-Net calls: a loss of an output and a target, or of a list of outputs and one of targets.

    Args:
        parts: losses that are added up. Those that compare thicknesses see the first output alone, which has the full
            size.
        head: what outputs are.
        weights: of the outputs, largest first; None without deep supervision.
        any_pixel_targets: make the smaller targets anew of the largest one, so that a cell is of a class if any of its
            pixels is.

    Raises:
        ValueError: a loss that such outputs cannot have; none for the smaller outputs.
    """

    def __init__(
        self,
        parts: Sequence[nn.Module],
        head: Head,
        weights: Sequence[float] | None = None,
        any_pixel_targets: bool = False,
    ) -> None:
        super().__init__()
        at_full_size = [part for part in parts if has_thickness(part)]
        at_all_sizes = [part for part in parts if not has_thickness(part)]
        if weights is not None and not at_all_sizes:
            raise ValueError(
                "loss: expected one for the smaller outputs of deep supervision, too, since thicknesses are compared "
                "at full size alone; add 'default' to it, or set enable_deep_supervision = False"
            )
        self.head, self.any_pixel_targets = head, any_pixel_targets
        self.at_full_size = OnHead(Sum(at_full_size), head) if at_full_size else None
        self.at_all_sizes = None
        if at_all_sizes:
            resize = "any" if any_pixel_targets else "outputs"
            self.at_all_sizes = DeepSupervision(OnHead(Sum(at_all_sizes), head), weights, resize=resize)
        self._move_to(0)

    def forward(self, output: Tensor | Sequence[Tensor], target: Tensor | Sequence[Tensor]) -> Tensor:
        """The loss of what nnU-Net's network and loader made."""
        outputs = [output] if isinstance(output, Tensor) else list(output)
        levels = [self.head.split(one) for one in ([target] if isinstance(target, Tensor) else target)]
        (largest, mask), values = levels[0], []
        if self.at_full_size is not None:
            values.append(self.at_full_size(outputs[0], largest, mask))
        if self.at_all_sizes is not None and self.any_pixel_targets:
            values.append(self.at_all_sizes(outputs, largest, mask=mask))
        elif self.at_all_sizes is not None:
            targets, masks = zip(*levels, strict=True)
            values.append(self.at_all_sizes(outputs, targets, mask=None if mask is None else masks))
        return torch.stack(values).sum()

    def _step(self, seen: set[int]) -> None:
        for losses in self.children():
            advance(losses, seen)
        self._move_to(self._iteration + 1)

    def _place(self, iteration: int) -> None:
        place((tuple(self.children()), iteration))
        self._move_to(iteration)

    def _move_to(self, iteration: int) -> None:
        self._iteration = iteration

    def extra_repr(self) -> str:
        return f"any_pixel_targets={self.any_pixel_targets}, iteration={self._iteration}"

    # ---- Checkpoints: nnU-Net's hold no loss -------------------------------------------------------------------------

    def save_beside(self, checkpoint: str | os.PathLike[str], epoch: int) -> None:
        """Writes the loss's state beside a checkpoint, ``checkpoint_best.pth`` to ``checkpoint_best.loss.pth``.

        Args:
            checkpoint: its path.
            epoch: the one that a training goes on with from it.
        """
        write_tensors(_beside(checkpoint), {"epoch": epoch, "loss": self.state_dict()})

    def resume(self, checkpoint: str | os.PathLike[str], epoch: int, iterations_per_epoch: int) -> str:
        """Goes where the loss was when a checkpoint was written.

        It is what :meth:`save_beside` wrote, if that is of this checkpoint and of this loss. Otherwise it is derived:
        so many epochs of so many iterations.

        Returns:
            What was done, in a sentence.
        """
        path = _beside(checkpoint)
        try:
            state: Any = read_tensors(path)
            if state["epoch"] != epoch:
                raise ValueError(f"it is of epoch {state['epoch']}")
            self.load_state_dict(state["loss"])
            return f"rarepixel: the loss goes on at iteration {self.iteration}, as {path.name} says"
        except FileNotFoundError:
            reason = "is missing"
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = f"is of no use ({' '.join(str(error).split())})"
        self.iteration = epoch * iterations_per_epoch
        return (
            f"rarepixel: the loss goes on at iteration {self.iteration}, {epoch} epochs of {iterations_per_epoch}, "
            f"since {path.name} {reason}"
        )

    @staticmethod
    def tidy(folder: str | os.PathLike[str]) -> None:
        """Removes states from a folder whose checkpoints are gone."""
        for path in Path(folder).glob("checkpoint_*.loss.pth"):
            if not path.with_name(path.name.replace(".loss.pth", ".pth")).exists():
                path.unlink(missing_ok=True)


def _beside(checkpoint: str | os.PathLike[str]) -> Path:
    return Path(checkpoint).with_suffix(".loss.pth")


def has_thickness(loss: nn.Module) -> bool:
    """Whether a loss is made of one that compares thicknesses."""
    return any(isinstance(module, THICKNESS) for module in loss.modules())


def nnunet_loss(trainer: Any, loss: LossLike, *, any_pixel_targets: bool = False) -> NnunetLoss:
    """What ``_build_loss`` of an nnU-Net trainer returns, of a loss of ours, of anybody's, or of its name.

    A loss that is named gets the options that the trainer's plans ask for: the softmax of a data set with labels, the
    sigmoids of one with regions; ``batch_dice``, over what overlaps and classes are counted; under
    DistributedDataParallel the processes over which overlaps are added up; how long the training is, over which Top-k's
    k falls. A Module is taken as it is. The ignore label, deep supervision and its weights are the trainer's in any
    case.

    Args:
        trainer: an nnU-Net trainer, 2.8 or newer, when it builds its loss.
        loss: ``"default"``, nnU-Net's own; another name with options, such as ``"top_k:k=0.05"``, ``{"top_k": {"k":
            0.05}}`` or ``"monai.losses.TverskyLoss:softmax=true"``; a Module of (logits, target) or of (logits, target,
            mask); or a list of these, which are added up.
        any_pixel_targets: whether a cell of the smaller targets of deep supervision is of a class if any of its pixels
            is. Otherwise, as nnU-Net does, it has the label of one of them, and small lesions vanish.

    Raises:
        TypeError: no loss; a loss that changes as training goes on for a trainer that does not step it.
        ValueError: no such name or option, with the nearest one; a loss that such data cannot have; parameters of a
            loss that the trainer's optimizer does not have.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> trainer = SimpleNamespace(
        ...     label_manager=SimpleNamespace(num_segmentation_heads=3, has_regions=False, ignore_label=3),
        ...     configuration_manager=SimpleNamespace(batch_dice=True, patch_size=[32, 32]),
        ...     is_ddp=False, num_epochs=1000, num_iterations_per_epoch=250, enable_deep_supervision=False,
        ...     device=torch.device("cpu"), optimizer=torch.optim.SGD(torch.nn.Conv2d(1, 3, 3).parameters(), lr=0.01),
        ... )
        >>> criterion = nnunet_loss(trainer, ["dice", "random_drop"])
        >>> logits = torch.randn(2, 3, 32, 32, requires_grad=True)
        >>> criterion(logits, torch.randint(0, 4, (2, 1, 32, 32), dtype=torch.int16)).backward()
    """
    labels, configuration = trainer.label_manager, trainer.configuration_manager
    head = Head(labels.num_segmentation_heads, labels.has_regions, labels.ignore_label)
    steps = trainer.num_epochs * trainer.num_iterations_per_epoch
    parts = Plans(head, configuration.batch_dice, trainer.is_ddp, steps).make(loss)
    for part in parts:
        if has_thickness(part) and len(configuration.patch_size) != 2:
            size = " x ".join(map(str, configuration.patch_size))
            raise ValueError(
                f"loss: expected a 2d configuration for a thickness loss, got patches of {size}: segments of "
                "vessels are defined in images alone"
            )
        _check_stepped(trainer, part)
        _check_trained(trainer, part)
    weights = _weights(trainer) if trainer.enable_deep_supervision else None
    # nnU-Net leaves its loss where it was made.
    return NnunetLoss(parts, head, weights, any_pixel_targets).to(trainer.device)


def _weights(trainer: Any) -> list[float]:
    """Those of nnU-Net: halved from output to output, 0 for the smallest; their sum is 1."""
    weights = [0.5**level for level in range(len(trainer._get_deep_supervision_scales()))]
    if len(weights) > 1:
        # DistributedDataParallel refuses parameters without a gradient, but for a compiled network.
        weights[-1] = 1e-6 if trainer.is_ddp and not trainer._do_i_compile() else 0.0
    return [weight / sum(weights) for weight in weights]


def _check_stepped(trainer: Any, loss: nn.Module) -> None:
    changing = [
        one
        for one in loss.modules()
        if has_own_step(one) or (isinstance(one, Counting) and not isinstance(one, Constant))
    ]
    if changing and not any(base.__name__ == "RarePixelTrainer" for base in type(trainer).__mro__):
        raise TypeError(
            f"trainer: expected a rarepixel.nnunet.RarePixelTrainer, which steps its loss, for a loss that changes as "
            f"training goes on ({type(changing[0]).__name__}), got {type(trainer).__name__}"
        )


def _check_trained(trainer: Any, loss: nn.Module) -> None:
    trained = {id(one) for group in trainer.optimizer.param_groups for one in group["params"]}
    missing = [name for name, one in loss.named_parameters() if one.requires_grad and id(one) not in trained]
    if missing:
        raise ValueError(
            f"loss: expected one without parameters to train, since nnU-Net's optimizer has those of the network "
            f"alone, got {', '.join(missing)}; add them in configure_optimizers, or call requires_grad_(False)"
        )
