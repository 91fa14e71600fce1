"""The papers' recipes on real photos, made small."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarepixel.train import evaluate, train

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA}: not there")


@needs
@pytest.mark.filterwarnings("ignore:all background")
def test_red_seg_on_idrid(tmp_path: Path) -> None:
    run = train(
        "redseg-idrid",
        tmp_path / "run",
        [
            *("--data.root", str(DATA / "IDRiD_quarter"), "--data.dataset", "idrid:lesions=[MA,HE]:downsample=4"),
            *("--data.train", "[IDRiD_01, IDRiD_02, IDRiD_03]", "--data.validation", "[IDRiD_07]"),
            *("--steps", "6", "--validate_every", "6", "--checkpoint_every", "6"),
            *("--data.cache", str(tmp_path / "cache")),
            *("--loss", "{two_stage: {first: {top_k: {balance: image, reduction: sum}}, switch_at: 4, "
              "second: {squared_error: {balance: image, reduction: sum}}}}"),
        ],
    )  # fmt: skip
    losses = [row["loss"] for row in run.training]
    assert all(1e2 < loss < 1e6 for loss in losses)  # sums over an image
    found = run.validation[-1]
    assert {"average_precision_MA", "average_precision_HE"} <= found.keys()
    assert 0 < found["average_precision"] < 1


@needs
@pytest.mark.filterwarnings("ignore:all background")
def test_segments_on_chase_db1(tmp_path: Path) -> None:
    run = train(
        "segment-drive",
        tmp_path / "run",
        [
            *("--data.dataset", f"{{chase_db1: {{fov: {DATA / 'CHASEDB1_fov'}, downsample: 2}}}}"),
            *("--data.root", str(DATA / "CHASEDB1")),
            *("--data.train", "['Image_01*', Image_02L]", "--data.validation", "[Image_02R]"),
            *("--data.cache", str(tmp_path / "cache"), "--data.batch", "2", "--model", "segment_net:width=0.0625"),
            *("--steps", "6", "--validate_every", "6", "--checkpoint_every", "6", "--window", "256"),
        ],
    )  # fmt: skip
    assert run.about["data"]["validation"]["names"] == ["Image_02R"]
    assert any((tmp_path / "cache").rglob("*.npz"))  # the segments of the annotations
    found = evaluate(run, vessels=True, samples=0).classes[0].measures
    assert found["average_precision"].value == pytest.approx(run.validation[-1]["average_precision"], abs=1e-6)
