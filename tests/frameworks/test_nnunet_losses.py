"""The fused twin of nnU-Net's default loss against nnU-Net's own, and the trainers' names against its names."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from rarepixel.nnunet import nnunet_loss, trainer_folder, trainers

from ..nnunet.stand_in import IGNORE, batch, gradients, trainer

pytest.importorskip("nnunetv2")

from nnunetv2.training.loss import compound_losses, dice
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module  # noqa: N813
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities import find_class_by_name
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:torch.*")  # of what nnU-Net imports


def in_double(module: ModuleType) -> dict[str, Any]:
    """A module of nnU-Net's with sums and labels in double, which it has in float32 whatever its numbers are in."""
    source = inspect.getsource(module).replace("torch.float32", "torch.float64").replace(".float()", ".double()")
    names: dict[str, Any] = {"__name__": module.__name__}
    exec(source, names)
    return names


def both(of: Any) -> tuple[Any, Any]:
    """nnU-Net's default loss in double, made by its own trainer, and ours."""
    made = {**in_double(compound_losses), **in_double(dice)}
    names = ("DC_and_CE_loss", "DC_and_BCE_loss", "MemoryEfficientSoftDiceLoss")
    with mock.patch.multiple(trainer_module, **{name: made[name] for name in names}):
        return trainer_module.nnUNetTrainer._build_loss(of), nnunet_loss(of, "default")


def compare(of: Any, batch_of_levels: tuple[list[Tensor], list[Tensor]]) -> None:
    """Values and gradients of both, to 1e-8."""
    theirs, ours = both(of)
    outputs, targets = batch_of_levels
    arguments = (outputs, targets) if of.levels else (outputs[0], targets[0])
    expected = theirs(*arguments)
    expected.backward()
    wanted = gradients(outputs)
    value = ours(*arguments)
    value.backward()
    assert value.item() == pytest.approx(expected.item() + 1, rel=0, abs=1e-8)
    for gradient, want in zip(gradients(outputs), wanted, strict=True):
        assert (gradient is None) == (want is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, want, rtol=0, atol=1e-8)


by_batch_dice = pytest.mark.parametrize("batch_dice", [True, False], ids=["batch", "images"])
by_labels = pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])


@by_batch_dice
@by_labels
@pytest.mark.parametrize("ignore", [False, True], ids=["", "ignore"])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("levels", [0, 3])
def test_default(regions: bool, ignore: bool, batch_dice: bool, dimensions: int, levels: int) -> None:
    of = trainer(regions=regions, ignore=ignore, batch_dice=batch_dice, dimensions=dimensions, levels=levels)
    compare(of, batch(of))


@by_batch_dice
@by_labels
@pytest.mark.parametrize("images", [1, 2], ids=["an image ignored", "all ignored"])
def test_default_of_what_is_ignored(regions: bool, batch_dice: bool, images: int) -> None:
    of = trainer(regions=regions, ignore=True, batch_dice=batch_dice)
    outputs, targets = batch(of)
    for target in targets:
        target[:images, -1:] = 1 if regions else IGNORE
    compare(of, (outputs, targets))


@by_labels
def test_default_with_classes_absent(regions: bool) -> None:
    of = trainer(regions=regions, batch_dice=False)
    outputs, targets = batch(of)
    for target in targets:
        target[0] = 0
    compare(of, (outputs, targets))


@by_labels
def test_half(regions: bool) -> None:
    """Where sums of nnU-Net's overflow, on the CPU; the loss is scaled as a GradScaler does."""
    of = trainer(regions=regions, levels=0)
    logits = torch.randn(2, 3, 512, 512).half().requires_grad_()
    target = torch.rand(2, 3, 512, 512) < 0.01 if regions else torch.randint(0, 3, (2, 1, 512, 512), dtype=torch.int16)
    theirs, ours = both(of)
    exact = logits.detach().double().requires_grad_()
    expected = theirs(exact, target)
    (expected * 65536).backward()
    value = ours(logits, target)
    (value * 65536).backward()
    assert value.item() == pytest.approx(expected.item() + 1, rel=1e-6)
    assert logits.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)
    if not regions:
        assert trainer_module.nnUNetTrainer._build_loss(of)(logits, target).isnan()


def _compare_rank(rank: int, rendezvous: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    try:
        for regions in (False, True):
            of = trainer(regions=regions, is_ddp=True)
            torch.manual_seed(rank)
            theirs, ours = both(of)
            outputs, targets = batch(of)
            value = torch.stack([theirs(outputs, targets) + 1])
            value.sum().backward()
            wanted = gradients(outputs)
            torch.distributed.all_reduce(value)  # the cross-entropies are each process's
            mine = ours(outputs, targets)
            mine.backward()
            torch.testing.assert_close(mine, value[0] / 2, rtol=0, atol=1e-8)
            for gradient, want in zip(gradients(outputs), wanted, strict=True):
                assert gradient is not None
                torch.testing.assert_close(gradient, want, rtol=0, atol=1e-8)
    finally:
        torch.distributed.destroy_process_group()


def test_default_in_two_processes(tmp_path: Path) -> None:
    """The batch's Dice is that of both, the smallest output has its weight of 1e-6, gradients are equal."""
    context = torch.multiprocessing.spawn(_compare_rank, (str(tmp_path / "meet"),), nprocs=2, join=False)
    with contextlib.ExitStack() as stack:
        for rank in context.processes:
            stack.callback(rank.kill)
        end = time.monotonic() + 120
        while not context.join(timeout=1):
            assert time.monotonic() < end, "the processes hang"


def test_compiled_network() -> None:
    """nnU-Net compiles its network, not its loss."""
    of = trainer(levels=2)
    network = torch.nn.ModuleList([torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Conv2d(1, 3, 2, stride=2)])

    @torch.compile(backend="aot_eager", fullgraph=True)
    def outputs(image: Tensor) -> list[Tensor]:
        return [head(image) for head in network]

    _, targets = batch(of)
    image = torch.randn(2, 1, 16, 16)
    for spec in ("default", "top_k", ["dice", "random_drop"], "two_stage"):
        loss = nnunet_loss(of, spec)
        torch.manual_seed(0)
        value = loss(outputs(image), targets)
        value.backward()
        torch.manual_seed(0)
        torch.testing.assert_close(value, loss([head(image) for head in network], targets))


def test_trainers_have_names_of_their_own() -> None:
    folder = Path(inspect.getfile(nnUNetTrainer)).parent
    theirs = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    assert len(trainers()) == 11
    for name in trainers():
        assert f"class {name}(" not in theirs


def test_nnunet_finds_every_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(trainer_folder()))
    expected = inspect.signature(nnUNetTrainer.__init__)
    for name in trainers():
        found = recursive_find_trainer_class_by_name(name)
        assert found.__name__ == name
        assert inspect.signature(found.__init__) == expected
        assert found.build_network_architecture is nnUNetTrainer.build_network_architecture
    assert "rarepixel_trainers" not in sys.modules
    imported = find_class_by_name.pkgutil.iter_modules([os.fspath(trainer_folder())])
    assert [module.name for module in imported] == ["rarepixel_trainers"]


def test_trainers_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs/nnunet.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(block, names)
    of = trainer()
    for name, losses in (("Mine", "DiceLoss TopKLoss Constant"), ("MineShort", "RandomDropLoss")):
        made = names[f"nnUNetTrainer{name}"]
        own = made.__new__(made)
        own.__dict__.update(of.__dict__)
        own._get_deep_supervision_scales, own._do_i_compile = of._get_deep_supervision_scales, of._do_i_compile
        loss = own._build_loss()
        assert ("resize='any'" in str(loss)) == own.any_pixel_targets == (name == "MineShort")
        assert all(one in str(loss) for one in losses.split())
        loss(*batch(of)).backward()
