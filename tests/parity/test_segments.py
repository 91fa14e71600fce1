"""Against the published MATLAB program, which ``original=True`` reproduces pixel for pixel.

Its component numbers come from a library; compared are the files' variants that number components by their first pixel,
column by column. It fails on a single row of pixels and on closed loops.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rarepixel import segments
from tests.conftest import GOLDEN

SHIPPED = Path(__file__).parent / "data" / "id_mask"
FOLDER = GOLDEN / "id_mask"
FILES = sorted((FOLDER if FOLDER.is_dir() else SHIPPED).glob("*.npz"))
by_file = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


@by_file
def test_published_program(path: Path) -> None:
    file: dict[str, Any] = dict(np.load(path))
    vessels, mask = torch.from_numpy(file["vessels"]) != 0, torch.from_numpy(file["mask"])
    if str(file["status"]) != "ok":
        if vessels.shape[0] > 1:  # a row is a column to it, and ours has no trouble with either
            with pytest.raises(ValueError, match="closed loop"):
                segments.segment_map(vessels, mask=mask, original=True)
        return
    assert np.array_equal(segments.thin(vessels).numpy(), file["skeleton"] != 0)
    found = segments.segment_map(vessels, mask=mask, original=True)
    np.testing.assert_allclose(found.thickness.numpy(), file["ref_thickness"], rtol=1e-6)
    ids = np.zeros(vessels.numel(), dtype=np.int32)
    for number in range(len(found)):
        ids[found.pixels[found.offsets[number] : found.offsets[number + 1]].numpy()] = number + 1
    assert np.array_equal(ids.reshape(vessels.shape), file["segment_id_colmajor"])
    if "id_mask_colmajor" in file:
        assert np.array_equal(found.ids.numpy(), file["id_mask_colmajor"])


def test_enough_files_are_compared() -> None:
    assert len(FILES) >= 10
    assert sum("id_mask_colmajor" in np.load(path) for path in FILES) >= 8


def test_later_ranges_wipe_out_skeletons_in_the_original_alone() -> None:
    wiped = 0
    for path in FILES:
        file: dict[str, Any] = dict(np.load(path))
        if str(file["status"]) != "ok":
            continue
        vessels = torch.from_numpy(file["vessels"]) != 0
        for original in (True, False):
            found = segments.segment_map(vessels, original=original)
            left = int((found.ids < 0).sum())
            assert left <= found.pixels.numel()
            if original:
                wiped += left < found.pixels.numel()
            else:
                assert left == found.pixels.numel()
    assert wiped >= 1
