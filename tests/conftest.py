"""What all tests share: where they run, and how close is close."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

# dtype of the logits -> (relative, absolute) tolerance of values and gradients against an oracle in the same dtype.
# Half gradients may differ in their last bit; float32 sums are added in another order.
TOLERANCES = {
    torch.float64: (1e-11, 1e-13),
    torch.float32: (1e-5, 1e-7),
    torch.float16: (1e-3, 1e-6),
    torch.bfloat16: (8e-3, 1e-6),
}

# The original programs' numbers live beside the repository where they are at hand.
GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


# What torch 2.14 says of its own tools, and of Python 3.13.0. With the torch of development everything is an error.
WARNINGS_OF_TORCH_2_14 = (
    "ignore:`torch.jit:FutureWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    "ignore:Guards may run slower:RuntimeWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    if torch.__version__ >= (2, 14):
        for warning in WARNINGS_OF_TORCH_2_14:
            config.addinivalue_line("filterwarnings", warning)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """Compares by the table, whatever the two tensors' own dtypes."""
    rtol, atol = TOLERANCES[dtype]
    torch.testing.assert_close(actual.double(), expected.double(), rtol=rtol, atol=atol)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On tiny images threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
