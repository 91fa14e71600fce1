"""The shipped comparisons on real photos, made small."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarepixel.comparison import Compared, compare

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA}: not there")
SMALL = [
    *("--model", "small_unet:widths=[4,8]", "--data.patch", "64", "--data.batch", "2", "--data.normalise", "zscore"),
    *("--steps", "4", "--validate_every", "2", "--checkpoint_every", "4"),
]


def compare_small(name: str, folder: Path, words: list[str], losses: list[str] | dict[str, object]) -> Compared:
    words = [*SMALL, "--data.cache", str(folder / "cache"), *words]
    return compare(name, folder / "out", losses=losses, seeds=1, search=False, overrides=words)


def page(found: Compared) -> str:
    text = found.files[0].read_text()
    assert found.files[0].name == "report.html"
    assert len(text) < 2_000_000
    for method in found.subject.methods:
        assert method.name in text
    return text


def test_microaneurysms(tmp_path: Path) -> None:
    words = [
        *("--data.root", str(DATA / "IDRiD_quarter"), "--data.dataset", "idrid:lesions=[MA]:downsample=2"),
        *("--data.train", "[IDRiD_01, IDRiD_02]", "--data.validation", "[IDRiD_07, IDRiD_08]"),
    ]
    found = compare_small("idrid-lesions", tmp_path, words, ["bce", "random_drop:log"])
    (trial,) = found.subject.methods[0].trials
    assert [row["image"] for row in trial.evaluation["images"]] == ["IDRiD_07", "IDRiD_08"]
    assert trial.evaluation["classes"][""]["lesions"]["num_lesions"] > 50
    # Two images tell nothing, and the page says so.
    assert "better than" not in page(found)


def test_vessels_with_thickness(tmp_path: Path) -> None:
    words = [
        *("--data.dataset", f"{{chase_db1: {{fov: {DATA / 'CHASEDB1_fov'}, downsample: 2}}}}"),
        *("--data.root", str(DATA / "CHASEDB1"), "--data.train", "null", "--data.validation", "['Image_02*']"),
    ]
    losses: dict[str, object] = {
        "BCE": "bce",
        "BCE and thickness": {"joint": {"segment": "segment_thickness", "pixel": "bce"}},
    }
    found = compare_small("chase-db1", tmp_path, words, losses)
    measures = found.subject.methods[1].trials[0].evaluation["classes"][""]["measures"]
    assert {"cl_dice", "thickness_error"} <= measures.keys()
    assert "thickness" in page(found)


@pytest.mark.filterwarnings("ignore:all background")
def test_the_study_of_weights_and_focal_losses(tmp_path: Path) -> None:
    words = [
        *("--data.root", str(DATA / "IDRiD_quarter"), "--data.dataset", "idrid:lesions=[OD]:downsample=4"),
        *("--data.train", "[IDRiD_01, IDRiD_02]", "--data.validation", "[IDRiD_07]"),
    ]
    found = compare_small("weights-against-focal", tmp_path, words, ["bce:positive_weight=2", "focal:gamma=2"])
    for method in found.subject.methods:
        run = method.trials[0].run
        assert run is not None
        assert [row["step"] for row in run.validation] == [2, 4]
        # A share of pixels, and no ratio of areas, which would go beyond 1.
        for row in run.validation:
            assert all(
                0 <= row[name] <= 1
                for name in ("accuracy_at_half", "iou_at_half", "recall_at_half", "positive_confidence")
            )
    assert "mean probability of what is true" in page(found).lower()
