"""The state of a loss beside a checkpoint of nnU-Net's."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarepixel.nnunet import NnunetLoss, nnunet_loss

from .stand_in import trainer

SPEC = ["top_k", "two_stage"]


def stepped(times: int) -> NnunetLoss:
    loss = nnunet_loss(trainer(), SPEC)
    for _ in range(times):
        loss.step()
    return loss


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint_latest.pth"


def test_goes_on_where_it_was(checkpoint: Path) -> None:
    stepped(23).save_beside(str(checkpoint), 7)
    loss = stepped(0)
    assert loss.resume(str(checkpoint), 7, 5) == (
        "rarepixel: the loss goes on at iteration 23, as checkpoint_latest.loss.pth says"
    )
    assert str(loss) == str(stepped(23))
    loss.step()
    assert str(loss) == str(stepped(24))


def test_is_derived_where_it_is_missing(checkpoint: Path) -> None:
    loss = stepped(0)
    assert loss.resume(checkpoint, 8, 5) == (
        "rarepixel: the loss goes on at iteration 40, 8 epochs of 5, since checkpoint_latest.loss.pth is missing"
    )
    assert str(loss) == str(stepped(40))


def test_is_derived_where_it_is_of_another_checkpoint(checkpoint: Path) -> None:
    """A training that is killed between the two files."""
    stepped(15).save_beside(checkpoint, 3)
    loss = stepped(0)
    assert "of no use (it is of epoch 3)" in loss.resume(checkpoint, 8, 5)
    assert str(loss) == str(stepped(40))


@pytest.mark.parametrize("damage", ["cut", "text", "another loss"])
def test_is_derived_where_it_is_of_no_use(checkpoint: Path, damage: str) -> None:
    path = checkpoint.with_name("checkpoint_latest.loss.pth")
    nnunet_loss(trainer(), "default" if damage == "another loss" else SPEC).save_beside(checkpoint, 8)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "text":
        path.write_text("nothing")
    loss = stepped(0)
    said = loss.resume(checkpoint, 8, 5)
    assert said.startswith(
        "rarepixel: the loss goes on at iteration 40, 8 epochs of 5, since checkpoint_latest.loss.pth is"
    )
    assert "\n" not in said
    assert str(loss) == str(stepped(40))


def test_states_go_with_their_checkpoints(tmp_path: Path) -> None:
    for name in ("latest", "final"):
        stepped(1).save_beside(tmp_path / f"checkpoint_{name}.pth", 1)
    (tmp_path / "checkpoint_final.pth").touch()
    NnunetLoss.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_final.loss.pth", "checkpoint_final.pth"]
