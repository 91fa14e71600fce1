"""The reference Caffe layers against the numbers of the original ones: every stored case, NaN where they have it.

The three layers that were Caffe's own are bit for bit the originals, losses and gradients, with the mathematical
functions that computed those numbers (glibc on x86-64 with fma), but for one float32 loss, whose last bit differs;
elsewhere their last bits may. The segment loss was published in Python: NumPy's float32 functions and order of addition
are not reproduced.
"""

from __future__ import annotations

import platform
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.legacy_caffe.layers import Run, module, parse_prototxt, run
from tests.parity.bins import golden_files

DTYPES = {"f32": np.float32, "f64": np.float64}
# folder -> suffix -> tolerance of the loss, relative, and of gradients, relative to the largest one.
TOLERANCES = {
    "random_drop": {"f32": (1e-6, 1e-6), "f64": (1e-14, 1e-14)},
    "bin_loss": {"f32": (1e-6, 1e-6), "f64": (1e-14, 1e-14)},
    "multichannel_bin": {"f32": (1e-6, 1e-6), "f64": (1e-14, 1e-14)},
    "segment_loss": {"f32": (5e-7, 5e-6), "f64": (5e-7, 5e-7)},
}
IN_CAFFE = ("random_drop", "bin_loss", "multichannel_bin")
LAST_BIT = {("n1_c4_37x53_s2_prev0.05_0.02_0.01_0_key2_nl4_sep1_bias-1", "f32")}


def has_the_originals_mathematics() -> bool:
    """Whether exp, log and tanh are those that the stored numbers were computed with."""
    information = Path("/proc/cpuinfo")
    flags = information.read_text(encoding="utf-8").split() if information.exists() else []
    return platform.libc_ver()[0] == "glibc" and platform.machine() == "x86_64" and "fma" in flags


class Case:
    """One run of an original layer, in one of its two precisions."""

    def __init__(self, folder: str, path: Path, suffix: str) -> None:
        self.folder, self.path, self.suffix = folder, path, suffix

    def __str__(self) -> str:
        return f"{self.folder}-{self.path.stem}-{self.suffix}"

    @cached_property
    def file(self) -> dict[str, Any]:
        with np.load(self.path) as file:
            return dict(file)

    @property
    def loss(self) -> float:
        return float(self.file[f"loss_{self.suffix}"])

    def stored(self, name: str) -> np.ndarray | None:
        return self.file.get(f"{name}_{self.suffix}")

    def run(self, **options: Any) -> Run:
        if self.folder == "segment_loss":
            names, parameters = ("score", "label", "id_mask"), {"type": "SoftmaxSegmentLoss"}
        else:
            names, parameters = ("logits", "target"), parse_prototxt(str(self.file["prototxt"]))
        if "seed" in self.file:
            options["seed"] = int(self.file["seed"])
        if "grad_init" in self.file:
            options["bottom_diff"] = float(self.file["grad_init"])
        kind = parameters.pop("type")
        return run(kind, [self.file[name].astype(DTYPES[self.suffix]) for name in names], parameters, **options)


CASES = [Case(folder, path, suffix) for folder in TOLERANCES for path in golden_files(folder) for suffix in DTYPES]


def cases(*folders: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [case for case in CASES if case.folder in folders], ids=str)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * float(largest), equal_nan=True)


@cases(*TOLERANCES)
def test_loss_and_gradient(case: Case) -> None:
    of_loss, of_gradient = TOLERANCES[case.folder][case.suffix]
    loss, gradient = case.run()
    assert loss == pytest.approx(case.loss, rel=of_loss, abs=0, nan_ok=True)
    expected = case.stored("grad")
    if expected is not None:  # large images of the segment loss have it in float32 only
        assert gradient.dtype == expected.dtype
        assert_close(gradient, expected, of_gradient)


@cases(*IN_CAFFE)
@pytest.mark.skipif(not has_the_originals_mathematics(), reason="exp, log and tanh of another library or processor")
def test_every_bit(case: Case) -> None:
    loss, gradient = case.run()
    if (case.path.stem, case.suffix) not in LAST_BIT:
        np.testing.assert_array_equal(loss, case.loss)
    np.testing.assert_array_equal(gradient, case.stored("grad"))


@cases(*TOLERANCES)
def test_half_a_top_gradient(case: Case) -> None:
    loss, gradient = case.run()
    halved = case.run(top_diff=0.5)
    np.testing.assert_array_equal(halved.loss, loss)
    # As published, the segment loss does not look at it.
    np.testing.assert_array_equal(halved.gradient, gradient if case.folder == "segment_loss" else gradient / 2)
    expected = case.stored("grad_half")
    if expected is not None:
        assert_close(halved.gradient, expected, TOLERANCES[case.folder][case.suffix][1])


@cases("random_drop")
def test_uniform_numbers(case: Case) -> None:
    expected = case.stored("uniform")
    assert expected is not None
    drawn = module.uniform(expected.size, seed=int(case.file["seed"]), single=case.suffix == "f32")
    assert drawn.dtype == expected.dtype
    np.testing.assert_array_equal(drawn, expected.ravel())


@cases("random_drop")
def test_dropped_pixels_have_no_gradient_and_others_have(case: Case) -> None:
    dropped, positives = case.stored("dropped"), int(case.file[f"count_pos_{case.suffix}"])
    gradient = case.run().gradient
    assert dropped is not None
    assert not gradient[dropped].any()
    # What is kept and has p = 0 has no weight.
    p = 0.5 * np.tanh(0.5 * case.file["logits"].astype(np.float64)) + 0.5
    if positives:
        assert gradient[(case.file["target"] == 0) & ~dropped & ~(p == 0)].all()


def test_nothing_is_left_out() -> None:
    """Guards the tests above against folders that are empty, and files without what they compare."""
    for folder in TOLERANCES:
        files = golden_files(folder)
        assert len(files) >= 8, folder
        assert {path.name for path in files} >= {
            path.name for path in (Path(__file__).parents[1] / "parity" / "data" / folder).glob("*.npz")
        }
    assert sum(np.isnan(case.loss) for case in CASES) >= 2
    assert sum(case.stored("grad") is not None for case in CASES) >= 0.95 * len(CASES)
