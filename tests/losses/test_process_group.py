"""Regions that lie in several processes: two of them against one with the joined batch."""

from __future__ import annotations

import contextlib
import copy
import datetime
import pickle
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

import rarepixel
from rarepixel import functional, reference
from tests.conftest import assert_close

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="no gloo"
)

RANKS = 2
SECONDS = 60  # more than enough: whatever takes longer hangs
SIDES = {"kernels": functional, "reference": reference}
SHARED: dict[str, Any] = {"balance": "batch", "return_stats": True}


@dataclass(frozen=True)
class Case:
    """A loss of five images, of which the first process has some and the second the others."""

    name: str
    loss: str = "unified_focal"
    labels: str = "binary"  # or "index", "one_hot", "soft_binary" or "soft"
    images_of_first: int = 2
    dtype: torch.dtype = torch.float64
    options: dict[str, Any] = field(default_factory=dict)

    def inputs(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        generator = torch.Generator().manual_seed(len(self.name))
        logits = 3 * torch.randn(5, 3, 9, 11, generator=generator, dtype=torch.float64)
        options: dict[str, Any] = {**SHARED, **self.options}
        if self.labels in ("binary", "soft_binary"):
            target = torch.rand(5, 3, 9, 11, generator=generator, dtype=torch.float64)
            target = target if self.labels == "soft_binary" else (target < 0.1).double()
        else:
            options["activation"] = "softmax"
            target = torch.randint(0, 3, (5, 9, 11), generator=generator)
            target[:, :6] = 0
            if self.labels != "index":
                target = F.one_hot(target, 3).movedim(-1, 1).double()
            if self.labels == "soft":
                target = 0.6 * target + 0.4 * torch.randn(target.shape, generator=generator).double().softmax(dim=1)
        if self.labels.startswith("soft"):
            options["soft_labels"] = True
        return logits.to(self.dtype), target, options

    def images_of(self, rank: int) -> slice:
        return slice(self.images_of_first) if rank == 0 else slice(self.images_of_first, None)


class CompiledSide(NamedTuple):
    """Stands for rarepixel.functional."""

    unified_focal: Any


MASKS = torch.arange(5 * 99).reshape(5, 1, 9, 11) % 3 < 2
CASES = [
    Case("sigmoid"),
    Case("sigmoid_one_process_has_nothing", images_of_first=5),
    Case("sigmoid_float32", dtype=torch.float32, images_of_first=1),
    Case("sigmoid_bfloat16", dtype=torch.bfloat16),
    Case("sigmoid_dice", "dice", options={"include_background": True, "reduction": "none"}),
    Case("sigmoid_generalized_dice", "generalized_dice"),
    Case("sigmoid_one_generalized_dice", "generalized_dice", options={"one_quotient": True, "balance": "class"}),
    Case("sigmoid_mask", options={"mask": MASKS}),
    Case("soft_sigmoid", labels="soft_binary"),
    Case("soft_sigmoid_one_process_has_nothing", labels="soft_binary", images_of_first=0),
    Case("softmax", labels="index"),
    Case("softmax_one_process_has_nothing", labels="index", images_of_first=0, options={"background": 2}),
    Case("softmax_float32", labels="index", dtype=torch.float32, images_of_first=4),
    Case("softmax_one_hot", "focal_tversky", "one_hot", options={"reduction": "sum"}),
    Case("softmax_class_weights", "weighted_cross_entropy", "index",
         options={"class_weights": torch.tensor([0.5, 2.0, 1.0])}),
    Case("softmax_generalized_dice", "generalized_dice", "index"),
    Case("softmax_combo", "combo", "index", options={"like_code": True}),
    Case("softmax_ignored", "hybrid_focal", "index", options={"ignore_index": 1}),
    Case("softmax_mask", labels="index", options={"mask": MASKS}),
    Case("soft_softmax", labels="soft"),
    Case("soft_softmax_bfloat16", labels="soft", dtype=torch.bfloat16, images_of_first=3),
    Case("soft_softmax_one_process_has_nothing", labels="soft", images_of_first=5),
]  # fmt: skip

# Labels of five images, an image of the second process with labels that mean nothing.
INVALID = ["binary", "soft_binary", "index", "one_hot", "soft"]


def run_case(side: Any, case: Case, images: slice, group: Any = None) -> list[Tensor]:
    """Loss, gradient for an upstream gradient other than 1, and statistics."""
    logits, target, options = case.inputs()
    if "mask" in options:
        options["mask"] = options["mask"][images]
    if group is not None:
        options["process_group"] = group
    x = logits[images].clone().requires_grad_()
    loss, stats = getattr(side, case.loss)(x, target[images], **options)
    (gradient,) = torch.autograd.grad(2.5 * loss, x)
    return [loss.detach(), gradient, *stats]


def run_invalid(side: Any, labels: str, rank: int) -> str:
    """What the error says that labels of one process raise."""
    case = Case("invalid", labels=labels)
    logits, target, options = case.inputs()
    target[4, ..., 8, 9:] = 7
    images = case.images_of(rank)
    try:
        side.unified_focal(
            logits[images].requires_grad_(), target[images], process_group=torch.distributed.group.WORLD, **options
        )
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def make_model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)).double()


def model_inputs(softmax: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(5, 2, 9, 11, generator=generator, dtype=torch.float64)
    if softmax:
        return images, torch.randint(0, 3, (5, 9, 11), generator=generator)
    return images, torch.rand(5, 3, 9, 11, generator=generator) < 0.1


def train(model: nn.Module, softmax: bool, images: slice, group: Any = None) -> list[Tensor]:
    """The parameters after two steps, and their gradients in the last."""
    activation = "softmax" if softmax else "sigmoid"
    criterion = rarepixel.UnifiedFocalLoss(balance="batch", activation=activation, process_group=group)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    x, y = model_inputs(softmax)
    for _ in range(2):
        optimizer.zero_grad()
        loss = criterion(model(x[images]), y[images])
        loss.backward()
        optimizer.step()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    return [loss.detach(), *(parameter.detach() for parameter in model.parameters()), *gradients]


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except RuntimeError as error:
        return str(error)
    return "no error"


def change_logits(group: Any) -> None:
    logits, target, _ = CASES[0].inputs()
    changed = logits.requires_grad_() * 1
    loss = functional.dice(changed, target, balance="batch", process_group=group)
    with torch.no_grad():
        changed.mul_(0)
    loss.backward()


def differentiate_twice(group: Any) -> None:
    logits, target, _ = CASES[0].inputs()
    loss = functional.dice(logits.requires_grad_(), target, balance="batch", process_group=group)
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    (loss + gradient.pow(2).sum()).backward()


def in_forward_mode(group: Any) -> None:
    for side in SIDES.values():
        logits, target, _ = CASES[0].inputs()
        with pytest.raises(RuntimeError, match="process_group: expected None in forward mode"):
            torch.func.grad(side.dice)(logits, target, balance="batch", process_group=group)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(logits, torch.ones_like(logits))
        functional.dice(dual, target, balance="batch", process_group=group)


def process(rank: int, folder: str) -> None:
    """All that one process does; what it found is written to a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=SECONDS),
    )
    world = torch.distributed.group.WORLD
    found: dict[Any, Any] = {}
    for side_name, side in SIDES.items():
        for case in CASES:
            found[side_name, case.name] = run_case(side, case, case.images_of(rank), world)
        for labels in INVALID:
            found[side_name, "invalid", labels] = run_invalid(side, labels, rank)
    for softmax in (False, True):
        model = nn.parallel.DistributedDataParallel(make_model())
        found["model", softmax] = train(model, softmax, Case("").images_of(rank), world)
    alone = [torch.distributed.new_group([each]) for each in range(RANKS)][rank]
    found["alone"] = run_case(functional, CASES[0], CASES[0].images_of(rank), alone)
    with torch.no_grad():
        found["no gradient"] = functional.unified_focal(
            *(t[CASES[0].images_of(rank)] for t in CASES[0].inputs()[:2]), balance="batch", process_group=world
        )
    for change in (change_logits, differentiate_twice, in_forward_mode):
        found[change.__name__] = error_of(lambda change=change: change(world))
    criterion = copy.deepcopy(rarepixel.DiceLoss(balance="batch", process_group=world))
    found["copy"] = criterion.process_group is world, "process_group=" in repr(criterion)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pickled = pickle.loads(pickle.dumps(nn.ModuleList([criterion, copy.copy(criterion)])))
    found["pickled"] = [each.process_group for each in pickled], [str(one.message) for one in caught]
    found["left"] = criterion.process_group is copy.copy(criterion).process_group is world
    compiled = torch.compile(functional.unified_focal, backend="aot_eager")
    found["compiled"] = run_case(CompiledSide(compiled), CASES[0], CASES[0].images_of(rank), world)
    torch.save(found, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each process found; they are started once."""
    folder = tmp_path_factory.mktemp("processes")
    context = torch.multiprocessing.spawn(process, (str(folder),), nprocs=RANKS, join=False)
    end = time.monotonic() + SECONDS
    with contextlib.ExitStack() as stack:
        for each in context.processes:
            stack.callback(each.kill)
        while not context.join(timeout=1):
            assert time.monotonic() < end, "the processes hang"
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(RANKS)]


# ---- Against one process --------------------------------------------------------------------------------------------


by_side = pytest.mark.parametrize("side", SIDES)
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_side
@by_case
def test_processes_find_the_loss_of_the_joined_batch(side: str, case: Case, ranks: list[dict[Any, Any]]) -> None:
    loss, gradient, *stats = run_case(SIDES[side], case, slice(None))
    for rank in range(RANKS):
        found, of_images, *counts = ranks[rank][side, case.name]
        assert_close(found, loss, loss.dtype)
        assert torch.equal(found, ranks[0][side, case.name][0])
        assert of_images.dtype == gradient.dtype
        # The gradient of the sum of all processes' losses.
        assert_close(of_images / RANKS, gradient[case.images_of(rank)], gradient.dtype)
        for mine, expected in zip(counts, stats, strict=True):
            assert mine.dtype == expected.dtype
            assert mine.shape == expected.shape
            torch.testing.assert_close(mine, expected)


@by_case
def test_kernels_and_twin_agree(case: Case, ranks: list[dict[Any, Any]]) -> None:
    for found in ranks:
        wide = torch.float64 if case.dtype == torch.float64 else torch.float32
        assert_close(found["kernels", case.name][0], found["reference", case.name][0], wide)
        assert_close(found["kernels", case.name][1], found["reference", case.name][1], case.dtype)


@pytest.mark.parametrize("softmax", [False, True], ids=["sigmoid", "softmax"])
def test_distributed_data_parallel_trains_as_one_process(softmax: bool, ranks: list[dict[Any, Any]]) -> None:
    expected = train(make_model(), softmax, slice(None))
    assert not torch.equal(expected[1], next(make_model().parameters()))
    for found in ranks:
        for mine, of_one in zip(found["model", softmax], expected, strict=True):
            assert_close(mine, of_one, torch.float64)


def test_a_group_of_one_is_no_group(ranks: list[dict[Any, Any]]) -> None:
    for rank in range(RANKS):
        expected = run_case(functional, CASES[0], CASES[0].images_of(rank))
        assert all(map(torch.equal, ranks[rank]["alone"], expected))


def test_without_gradients(ranks: list[dict[Any, Any]]) -> None:
    for found in ranks:
        assert not found["no gradient"].requires_grad
        assert torch.equal(found["no gradient"], found["kernels", "sigmoid"][0])


def test_what_autograd_refuses(ranks: list[dict[Any, Any]]) -> None:
    for found in ranks:
        assert "has been modified by an inplace operation" in found["change_logits"]
        assert found["differentiate_twice"].startswith("unified_focal: a second derivative is not defined")
        assert found["in_forward_mode"].startswith("process_group: expected None in forward mode")


def test_a_copied_module_has_the_same_group(ranks: list[dict[Any, Any]]) -> None:
    assert all(found["copy"] == (True, True) for found in ranks)


def test_a_pickled_module_has_no_group_and_says_so(ranks: list[dict[Any, Any]]) -> None:
    for found in ranks:
        groups, warned = found["pickled"]
        assert groups == [None, None]
        assert len(warned) == 2
        assert all(text.startswith("process_group: DiceLoss is pickled without it") for text in warned)
        assert found["left"]


def test_compiled_code_has_a_break_but_works(ranks: list[dict[Any, Any]]) -> None:
    for found in ranks:
        assert all(map(torch.equal, found["compiled"], found["kernels", CASES[0].name]))


# ---- Errors ---------------------------------------------------------------------------------------------------------


@by_side
@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ("binary", "target: expected 0 or 1 on every pixel that counts, got 7.0 (invalid on 6 pixels)"),
        (
            "soft_binary",
            "target: expected a number from 0 to 1 on every pixel that counts, got 7.0 (invalid on 6 pixels)",
        ),
        ("index", "target: expected a class index from 0 to 2 on every pixel that counts, got 7 (invalid on 2 pixels)"),
        ("one_hot", "target: expected 0 or 1 on every pixel that counts, got 7.0 (invalid on 6 pixels)"),
        ("soft", "target: expected a number from 0 to 1 on every pixel that counts, got 7.0 (invalid on 6 pixels)"),
    ],
)
def test_invalid_labels_of_one_process_raise_in_both(
    side: str, labels: str, text: str, ranks: list[dict[Any, Any]]
) -> None:
    assert ranks[1][side, "invalid", labels] == text
    text = "target: expected valid labels in every process of the group, got other ones (invalid on "
    assert ranks[0][side, "invalid", labels].startswith(text)
