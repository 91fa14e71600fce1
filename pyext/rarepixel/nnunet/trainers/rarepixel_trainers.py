"""What nnU-Net finds in this folder: its own trainer with other losses.

It imports rarepixel when a loss is built, not before: to predict, nnU-Net needs this file and not the package.
"""

from __future__ import annotations

from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class RarePixelTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnU-Net has no types
    """nnU-Net's trainer with the loss that :meth:`build_loss` says.

    Derive from it, or put it in front of another trainer:
    ``class nnUNetTrainerMine(RarePixelTrainer, nnUNetTrainerDA5)``.

    Attributes:
        any_pixel_targets: whether a cell of the smaller targets of deep supervision is of a class if any of its pixels
            is. Otherwise, as nnU-Net does, it has the label of one of them, and small lesions vanish.
    """

    any_pixel_targets = False

    def build_loss(self) -> Any:
        """The loss: whatever ``rarepixel.nnunet.nnunet_loss`` takes, a name, a Module or a list of them to add up."""
        return "default"

    def _build_loss(self) -> Any:
        from rarepixel.nnunet.loss import nnunet_loss

        return nnunet_loss(self, self.build_loss(), any_pixel_targets=self.any_pixel_targets)

    def train_step(self, batch: dict[str, Any]) -> Any:
        """nnU-Net's, and the loss goes on by one iteration; validation leaves it alone."""
        result = super().train_step(batch)
        self.loss.step()
        return result

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's, and the state of the loss in a file beside."""
        super().save_checkpoint(filename)
        if self.local_rank == 0 and not self.disable_checkpointing:
            self.loss.save_beside(filename, self.current_epoch + 1)

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """nnU-Net's, and the loss goes where it was."""
        super().load_checkpoint(filename_or_checkpoint)
        where = self.loss.resume(filename_or_checkpoint, self.current_epoch, self.num_iterations_per_epoch)
        self.print_to_log_file(where)

    def on_train_end(self) -> None:
        """nnU-Net's, which removes the latest checkpoint; what lay beside goes, too."""
        super().on_train_end()
        if self.local_rank == 0:
            self.loss.tidy(self.output_folder)


class nnUNetTrainerFusedDiceCE(RarePixelTrainer):
    """nnU-Net's own Dice + cross-entropy, fused: the same gradients for a fraction of time and memory."""


class nnUNetTrainerRandomDrop(RarePixelTrainer):
    """Random drop: easy negatives are dropped at random, the rest is class-balanced. For tiny lesions."""

    def build_loss(self) -> Any:
        return "random_drop"


class nnUNetTrainerScheduledTopK(RarePixelTrainer):
    """Top-k: the hardest 14 % of the negatives count, fewer and fewer of them as training goes on."""

    def build_loss(self) -> Any:
        return "top_k"


class nnUNetTrainerBin(RarePixelTrainer):
    """Bin loss: whole bins of hard negatives count, as many as the positives of each class ask for."""

    def build_loss(self) -> Any:
        return "bin_loss"


class nnUNetTrainerMultiChannelBin(RarePixelTrainer):
    """Multi-channel bin loss: the bin loss of all classes together, rare and frequent kinds balanced as one."""

    def build_loss(self) -> Any:
        return "multi_channel_bin"


class nnUNetTrainerTwoStage(RarePixelTrainer):
    """Red-Seg's recipe: Top-k until the lesions are found, then the squared error against false alarms."""

    def build_loss(self) -> Any:
        return "two_stage"


class nnUNetTrainerUnifiedFocal(RarePixelTrainer):
    """Unified Focal: overlap and cross-entropy, both focal; easy background is suppressed, rare classes are not."""

    def build_loss(self) -> Any:
        return "unified_focal"


class nnUNetTrainerFocalTversky(RarePixelTrainer):
    """Focal Tversky: overlap in which missed pixels cost more than false alarms, hard images more than easy ones."""

    def build_loss(self) -> Any:
        return "focal_tversky"


class nnUNetTrainerDiceScheduledTopK(RarePixelTrainer):
    """Dice + Top-k: nnU-Net's Dice, with the scheduled Top-k in the place of the cross-entropy."""

    def build_loss(self) -> Any:
        return ["dice", "top_k"]


class nnUNetTrainerDiceRandomDrop(RarePixelTrainer):
    """Dice + random drop: nnU-Net's Dice, with random drop in the place of the cross-entropy."""

    def build_loss(self) -> Any:
        return ["dice", "random_drop"]


class nnUNetTrainerSegmentThickness(RarePixelTrainer):
    """Thin vessels, 2-D: nnU-Net's own loss + segment thickness, which makes segments of wrong thickness weigh more."""

    def build_loss(self) -> Any:
        return ["default", "segment_thickness"]
