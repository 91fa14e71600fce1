"""``docs/migrating.md``: each row's two calls, evaluated on random images."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rarepixel
from tests.frameworks import keras_losses

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"


class Row(NamedTuple):
    """One line of a table."""

    library: str
    kind: str  # of labels, the heading above the table
    theirs: str
    ours: str
    relation: str
    tolerance: float


def rows() -> list[Row]:
    found, library, kind = [], "", ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            library = line[3:].split()[0].strip(",")
        elif line.startswith("### "):
            kind = line[4:]
        elif line.startswith("| `"):
            theirs, ours, relation, _, tolerance = (cell.strip().strip("`") for cell in line[1:-1].split("|"))
            found.append(Row(library, kind, theirs, ours, relation, float(tolerance)))
    return found


ROWS = rows()
NEEDS = {
    "PyTorch": (),
    "MONAI": ("monai.losses",),
    "segmentation-models-pytorch": ("segmentation_models_pytorch.losses",),
    "kornia": ("kornia.losses",),
    "torchvision": ("torchvision.ops",),
    "nnU-Net": ("nnunetv2.training.loss.compound_losses", "nnunetv2.training.loss.dice"),
    "Keras": (),
}
CHANNELS = {"One channel": 1, "Independent channels": 3, "Softmax over classes": 4}
WITHOUT_CHANNEL = ("PyTorch", "segmentation-models-pytorch", "kornia")  # maps of class indices there


def two(lesion: Tensor) -> Tensor:
    """Labels or probabilities of background and lesion."""
    return torch.cat([1 - lesion, lesion], dim=1)


def last_channels(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot labels and probabilities as Keras has them, the channels last."""
    if x.shape[1] == 1:
        return two(y).movedim(1, -1), two(torch.sigmoid(x)).movedim(1, -1)
    return F.one_hot(y[:, 0], x.shape[1]).to(x.dtype), x.softmax(dim=1).movedim(1, -1)


def names(row: Row) -> dict[str, Any]:
    """What the code of a row may use."""
    packages = {name: pytest.importorskip(name) for name in NEEDS[row.library]}
    found: dict[str, Any] = {"torch": torch, "rarepixel": rarepixel, "F": F, "loss_functions": keras_losses}
    for name, package in packages.items():
        found[name.partition(".")[0]] = importlib.import_module(name.partition(".")[0])
        found |= {key: value for key, value in vars(package).items() if not key.startswith("_")}
    return found


def inputs(row: Row) -> dict[str, Any]:
    """Images of different prevalences, so that no two ways to average are the same."""
    n, channels, size = 3, CHANNELS[row.kind], (17, 19)
    random = torch.Generator().manual_seed(5)
    rare = torch.tensor([0.02, 0.1, 0.4]).view(n, 1, 1, 1)
    x = 2 * torch.randn(n, channels, *size, generator=random, dtype=torch.float64)
    positive = torch.rand(n, channels, *size, generator=random) < rare
    if channels != 4:
        y = positive.double()
    else:
        y = positive[:, :1] * torch.randint(1, 4, (n, 1, *size), generator=random)
        y[:, 0, 0, :4] = torch.arange(4)  # each has some pixels
    soft = torch.rand(n, channels, *size, generator=random, dtype=torch.float64)
    found = {
        "w": torch.tensor([1.0, 2.0, 5.0, 3.0], dtype=torch.float64),
        "C": channels,
        "soft": soft / soft.sum(dim=1, keepdim=True) if channels == 4 else soft,
    }
    found |= {"probabilities": lambda x: two(torch.sigmoid(x)), "both": two}
    found["one_hot"] = lambda y: F.one_hot(y.reshape(n, *size), channels).movedim(-1, 1)
    found["mask"] = torch.rand(n, 1, *size, generator=random) < 0.7
    if "ignore" in row.theirs:
        y = torch.where(torch.rand(y.shape, generator=random) < 0.3, 255, y)
    if channels == 4 and row.library in WITHOUT_CHANNEL:
        y = y[:, 0]
    return {**found, "x": x, "y": y}


def value_and_gradient(code: str, known: dict[str, Any]) -> tuple[Tensor, Tensor]:
    x = known["x"].clone().requires_grad_()
    found = eval(code, {**known, "x": x})
    if not isinstance(found, Tensor):  # a criterion, not yet called
        of_keras = code.startswith("loss_functions.")
        found = found(*last_channels(x, known["y"])) if of_keras else found(x, known["y"])
    return found, torch.autograd.grad(found.sum(), x)[0]


@pytest.mark.filterwarnings("ignore")  # of theirs
@pytest.mark.parametrize("row", ROWS, ids=[f"{row.library}-{row.theirs}"[:100] for row in ROWS])
def test_row(row: Row) -> None:
    known = {**names(row), **inputs(row)}
    theirs, of_theirs = value_and_gradient(row.theirs, known)
    ours, of_ours = value_and_gradient(row.ours, known)
    value, at_0, at_1 = (eval(row.relation, {**known, "ours": given}) for given in (ours, 0.0, 1.0))
    torch.testing.assert_close(theirs, value.reshape(theirs.shape), rtol=row.tolerance, atol=0, check_dtype=False)
    expected, close = (at_1 - at_0) * of_ours, row.tolerance * of_theirs.abs().max().item()
    torch.testing.assert_close(of_theirs, expected, rtol=row.tolerance, atol=close)


def test_every_library_has_rows() -> None:
    assert {row.library for row in ROWS} == NEEDS.keys()
    assert {row.kind for row in ROWS} == CHANNELS.keys()
