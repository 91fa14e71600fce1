"""Files that belong together by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarepixel.evaluation.pairing import PairingError, pair

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def folder(place: Path, *names: str) -> Path:
    for name in names:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return place


@pytest.mark.parametrize(
    ("prediction", "truth", "fov", "name"),
    [
        ("a.png", "a.tif", "a.gif", "a"),
        ("01_test.png", "01_manual1.gif", "01_test_mask.gif", "01"),  # DRIVE
        ("21_training.npy", "21_manual1.gif", "21_training_mask.gif", "21"),
        ("Image_01L.png", "Image_01L_1stHO.png", "Image_01L.gif", "Image_01L"),  # CHASE_DB1
        ("im0001.png", "im0001.ah.ppm", "im0001_mask.png", "im0001"),  # STARE
        ("01_dr.JPG", "01_dr.tif", "01_dr_mask.tif", "01_dr"),  # HRF
        ("x_prob.nii.gz", "x_seg.nii", "x.fov.npz", "x"),
        ("x_Pred.png", "x-labels.png", "x.png", "x"),
    ],
)
def test_names_of_data_sets(tmp_path: Path, prediction: str, truth: str, fov: str, name: str) -> None:
    sides = [folder(tmp_path / side, file) for side, file in (("p", prediction), ("t", truth), ("f", fov))]
    (case,) = pair(*sides).cases
    assert case.name == name
    assert case.predictions == {"": tmp_path / "p" / prediction}
    assert case.truths == {"": tmp_path / "t" / truth}
    assert case.fov == tmp_path / "f" / fov


def test_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in (10, 2, 1, 33)]
    pairing = pair(folder(tmp_path / "p", *names), folder(tmp_path / "t", *names))
    assert [case.name for case in pairing.cases] == ["1", "2", "10", "33"]
    assert pairing.classes == ("",)


def test_what_is_no_map_is_passed_over(tmp_path: Path) -> None:
    predictions = folder(tmp_path / "p", "1.png", "readme.txt", ".hidden.png", "__MACOSX/1.png", ".git/1.png")
    assert len(pair(predictions, folder(tmp_path / "t", "1.png", "Thumbs.db")).cases) == 1


def test_classes_of_idrid(tmp_path: Path) -> None:
    truth = folder(
        tmp_path / "t",
        *("1. Microaneurysms/IDRiD_55_MA.tif", "1. Microaneurysms/IDRiD_56_MA.tif", "3. Hard Exudates/IDRiD_55_EX.tif"),
    )
    names = [f"{one}/IDRiD_{number}.png" for one in ("MA", "EX") for number in (55, 56)]
    for predictions in (
        folder(tmp_path / "folders", *names),
        folder(tmp_path / "suffixes", *(f"IDRiD_{n}_{one}_prob.png" for one in ("MA", "EX") for n in (55, 56))),
    ):
        pairing = pair(predictions, truth)
        assert pairing.classes == ("MA", "EX")
        assert [case.name for case in pairing.cases] == ["IDRiD_55", "IDRiD_56"]
        files = ("1. Microaneurysms/IDRiD_55_MA.tif", "3. Hard Exudates/IDRiD_55_EX.tif")
        assert list(pairing.cases[0].truths.values()) == [truth / file for file in files]
        assert pairing.cases[1].truths["EX"] is None
        assert pairing.notes == (f"{truth}: no file of class EX of IDRiD_56: taken to have none, as in IDRiD",)


def test_one_class_needs_no_name_among_predictions(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", "IDRiD_55_MA.tif")
    pairing = pair(folder(tmp_path / "p", "IDRiD_55.png"), truth)
    assert pairing.classes == ("MA",)
    assert pairing.cases[0].predictions == {"MA": tmp_path / "p" / "IDRiD_55.png"}


def test_one_file_for_all_classes(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", "1_MA.tif", "1_HE.tif")
    (case,) = pair(folder(tmp_path / "p", "1.npy"), truth).cases
    assert case.predictions == {"": tmp_path / "p" / "1.npy"}
    assert list(case.truths) == ["MA", "HE"]


def test_classes_that_are_not_predicted_are_told(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", "1_MA.tif", "1_HE.tif", "1_OD.tif")
    predictions = folder(tmp_path / "p", "1_MA.png")
    pairing = pair(predictions, truth)
    assert pairing.classes == ("MA",)
    assert pairing.notes == (f"{predictions}: no predictions of class HE, OD, which the truth has: not evaluated",)


def test_other_classes_have_to_be_named(tmp_path: Path) -> None:
    names = ("1_CTX.png", "1_NCS.png")
    truth, predictions = folder(tmp_path / "t", *names), folder(tmp_path / "p", *names)
    assert [case.name for case in pair(predictions, truth).cases] == ["1_CTX", "1_NCS"]
    pairing = pair(predictions, truth, classes=["NCS", "CTX"])
    assert pairing.classes == ("CTX", "NCS")
    assert [case.name for case in pairing.cases] == ["1"]


def test_a_right_eye_is_no_optic_disc(tmp_path: Path) -> None:
    names = ("1_OD.png", "1_OS.png")
    pairing = pair(folder(tmp_path / "p", *names), folder(tmp_path / "t", *names))
    assert pairing.classes == ("",)
    assert [case.name for case in pairing.cases] == ["1_OD", "1_OS"]


def test_folders_that_are_no_classes_are_part_of_the_name(tmp_path: Path) -> None:
    pairing = pair(folder(tmp_path / "p", "x/1.png", "y/1.png"), folder(tmp_path / "t", "x/1_gt.png", "y/1_gt.png"))
    assert [case.name for case in pairing.cases] == ["x/1", "y/1"]


def test_suffixes_may_tell_images_apart(tmp_path: Path) -> None:
    names = ("1.png", "1_test.png")
    pairing = pair(folder(tmp_path / "p", *names), folder(tmp_path / "t", *names))
    assert [case.name for case in pairing.cases] == ["1", "1_test"]


def test_two_observers(tmp_path: Path) -> None:
    truth = folder(tmp_path / "t", "Image_01L.jpg", "Image_01L_1stHO.png", "Image_01L_2ndHO.png")
    predictions = folder(tmp_path / "p", "Image_01L.png")
    with pytest.raises(
        PairingError,
        match=r"truth: expected one file an image, got .*Image_01L.jpg and .*_1stHO.png, "
        r"which are both of 'Image_01L' \(2 such pairs\); --truth-suffix says .* --truth-suffix _1stHO$",
    ):
        pair(predictions, truth)
    (case,) = pair(predictions, truth, truth_suffix="_2ndHO").cases
    assert case.truths == {"": truth / "Image_01L_2ndHO.png"}
    (case,) = pair(truth, truth, suffix="_2ndHO", truth_suffix="_1stho").cases
    assert case.predictions == {"": truth / "Image_01L_2ndHO.png"}
    with pytest.raises(PairingError, match=r"--truth-suffix: expected names that end in '_3rd', got Image_01L.jpg, "):
        pair(predictions, truth, truth_suffix="_3rd")


def test_a_file_for_a_file(tmp_path: Path) -> None:
    place = folder(tmp_path, "a.png", "b.npy", "c.png", "fov/a_mask.png")
    (case,) = pair(place / "a.png", place / "b.npy", place / "c.png").cases
    assert (case.name, case.predictions, case.truths) == ("a", {"": place / "a.png"}, {"": place / "b.npy"})
    assert case.fov == place / "c.png"
    assert pair(place / "a.png", place / "b.npy", place / "fov").cases[0].fov == place / "fov/a_mask.png"


def test_one_field_of_view_for_all(tmp_path: Path) -> None:
    place = folder(tmp_path, "p/1.png", "p/2.png", "t/1.png", "t/2.png", "fov.png")
    assert {case.fov for case in pair(place / "p", place / "t", place / "fov.png").cases} == {place / "fov.png"}


def test_unpaired_files_are_listed_on_either_side(tmp_path: Path) -> None:
    predictions = folder(tmp_path / "p", "1.png", *(f"{number}_prob.png" for number in range(20, 35)))
    truth = folder(tmp_path / "t", "1.tif", "7_manual1.gif")
    with pytest.raises(PairingError) as caught:
        pair(predictions, truth)
    lines = str(caught.value).splitlines()
    assert lines[0] == "predictions and truth: expected a partner for every file, by its name without suffixes, got"
    assert lines[1].startswith(f"  only among predictions in {predictions}: 20 (20_prob.png), 21 (21_prob.png), ")
    assert lines[1].endswith("29 (29_prob.png) and 5 more")
    assert lines[2] == f"  only among truth in {truth}: 7 (7_manual1.gif)"


@pytest.mark.parametrize(
    ("predictions", "truth", "fov", "said"),
    [
        (["1.txt"], ["1.png"], [], r"p: expected files that end in .png, .*, got 1 other files"),
        (["1_MA.png", "2.png"], ["1_MA.png", "2_MA.png"], [], "a class in every name, or in none, .* in 2.png"),
        (["1_MA.png"], ["1_HE.png"], [], "predictions: expected files of the classes HE of the truth, got MA"),
        (["1_MA.png", "1_HE.png"], ["1_MA.png"], [], "truth: expected files of class HE as in the pred"),
        (["1_MA.png", "2_MA.png", "1_HE.png"], ["1_MA.png", "2_MA.png", "1_HE.png"], [],
         r"predictions: expected a file of each class MA, HE of every image, got none of 2 \(HE\) in"),
        (["1.png"], ["1.png"], ["2.png"], "fov: expected a field of view of every image, got none of 1 in"),
        (["1.png"], ["1.png"], ["1.png", "1_mask.png"], "fov: expected one file an image, got .*1.png and .*1_m"),
        (["MA/1.png", "HE/1.png"], ["1.png"], [], "only among predictions"),
    ],
)  # fmt: skip
def test_what_does_not_pair(
    tmp_path: Path, predictions: list[str], truth: list[str], fov: list[str], said: str
) -> None:
    sides = [folder(tmp_path / side, *names) for side, names in (("p", predictions), ("t", truth), ("f", fov)) if names]
    with pytest.raises(PairingError, match=said):
        pair(*sides)


def test_no_folder(tmp_path: Path) -> None:
    place = folder(tmp_path, "p/1.png", "t.png")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        pair(place / "p", tmp_path / "nowhere")
    with pytest.raises(PairingError, match=r"t.png: expected a folder, since the other side is one, got a file"):
        pair(place / "p", place / "t.png")


@pytest.mark.skipif(not (DATA / "IDRiD_quarter").is_dir(), reason="no IDRiD at hand")
def test_idrid_as_it_is_released() -> None:
    truth = DATA / "IDRiD_quarter/A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
    photos = DATA / "IDRiD_quarter/A. Segmentation/1. Original Images/a. Training Set"
    pairing = pair(photos, truth)
    assert pairing.classes == ("MA", "HE", "EX", "SE", "OD")
    assert [case.name for case in pairing.cases] == [f"IDRiD_0{number}" for number in range(1, 9)]
    assert [case.name for case in pairing.cases if case.truths["SE"] is not None] == ["IDRiD_03", "IDRiD_08"]
    assert pairing.cases[0].predictions == {"": photos / "IDRiD_01.jpg"}
    single = pair(photos, truth / "1. Microaneurysms")
    assert single.classes == ("MA",)
    assert all(list(case.predictions) == ["MA"] for case in single.cases)
