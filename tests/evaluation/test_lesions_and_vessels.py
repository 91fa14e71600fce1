"""Lesions and vessels of an evaluation are those of the metrics, image by image and together."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from rarepixel.evaluation import evaluate
from rarepixel.metrics.lesion_curve import LesionCurve
from rarepixel.metrics.lesions import lesion_scores
from rarepixel.metrics.vessels import cl_dice, thickness_error

from .conftest import Folders

FEW = {"samples": 0}


def tensors(folders: Folders) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """p, truth and mask, (N, 1, H, W)."""
    arrays = (folders.levels / np.float32(255), folders.truth, folders.fov.copy())
    p, truth, mask = (torch.from_numpy(array)[:, None] for array in arrays)
    return p, truth, mask


def test_froc_is_that_of_the_curve(folders: Folders) -> None:
    found = evaluate(folders.predictions, folders.masks, fov=folders.fields, lesions=True, samples=100)
    curve = LesionCurve(bootstrap_samples=100)
    curve.update(*tensors(folders))
    expected = curve.compute()
    measures, details = found.classes[0].measures, found.classes[0].details["lesions"]
    assert measures["cpm"].value == pytest.approx(expected["cpm"].item())
    assert measures["lesion_average_precision"].value == pytest.approx(expected["average_precision"].item())
    assert measures["cpm"].interval == pytest.approx(expected["cpm_interval"].tolist(), nan_ok=True)
    assert details["num_lesions"] == expected["num_lesions"]
    assert details["sensitivities"] == expected["sensitivities"].tolist()
    # The curve that is drawn gives the same sensitivities.
    froc = details["froc"]
    assert set(froc["thresholds"]) <= {level / 255 for level in range(256)}
    for rate, sensitivity in zip(details["false_alarm_rates"], details["sensitivities"], strict=True):
        reached = [recall for false, recall in zip(froc["false_alarms"], froc["recall"], strict=True) if false <= rate]
        assert max(reached, default=0.0) == pytest.approx(sensitivity)


def test_lesions_at_the_threshold(folders: Folders) -> None:
    found = evaluate(folders.predictions, folders.masks, fov=folders.fields, lesions=True, threshold=0.3, **FEW)
    p, truth, mask = tensors(folders)
    images = [lesion_scores(p[n, 0] >= 0.3, truth[n, 0], mask=mask[n, 0]) for n in range(7)]
    for row, image in zip(found.rows, images, strict=True):
        assert row["matched_lesions"] == image["true_positives"]
        assert row["lesions"] == image["true_positives"] + image["false_negatives"]
        assert row["predicted_lesions"] == image["true_positives"] + image["false_positives"]
        assert row["panoptic_quality"] == pytest.approx(image["panoptic_quality"].item(), nan_ok=True)
        assert row["cc_dice"] == pytest.approx(image["cc_dice"].item(), nan_ok=True)
    measures, details = found.classes[0].measures, found.classes[0].details["lesions"]
    matched, false, missed = (
        sum(int(image[name]) for image in images) for name in ("true_positives", "false_positives", "false_negatives")
    )
    assert matched > 0
    assert [details[name] for name in ("true_positives", "false_positives", "false_negatives")] == [
        matched,
        false,
        missed,
    ]
    assert measures["lesion_recall"].value == pytest.approx(matched / (matched + missed))
    assert measures["lesion_f1"].value == pytest.approx(2 * matched / (2 * matched + false + missed))
    assert measures["lesion_recall"].mean == pytest.approx(np.nanmean([image["recall"].item() for image in images]))
    by_size = details["by_size"]
    assert sum(one["lesions"] for one in by_size) == details["num_lesions"]
    assert sum(one["matched"] for one in by_size) == matched
    assert all(one["matched"] <= one["found"] <= one["lesions"] for one in by_size)
    assert by_size[0]["pixels"] == "1-9"
    assert by_size[-1]["pixels"] == "1000+"


def test_small_predicted_lesions_are_left_out(folders: Folders) -> None:
    found = evaluate(folders.predictions, folders.masks, lesions=True, min_size=4, threshold=0.3, **FEW)
    for number, row in enumerate(found.rows):
        labels, _ = ndimage.label(folders.levels[number] >= 0.3 * 255, np.ones((3, 3)))
        assert row["predicted_lesions"] == (np.bincount(labels.ravel())[1:] >= 4).sum()
    all_sizes = evaluate(folders.predictions, folders.masks, lesions=True, threshold=0.3, **FEW)
    assert found.classes[0].measures["lesion_precision"].value > all_sizes.classes[0].measures["lesion_precision"].value


def test_what_counts_as_a_hit_is_an_option(folders: Folders) -> None:
    for options in ({"min_overlap": 0.5}, {"tolerance": 2.0}, {"connectivity": 4}):
        found = evaluate(folders.predictions, folders.masks, lesions=True, **options, **FEW)
        curve = LesionCurve(**options, bootstrap_samples=0)
        p, truth, _ = tensors(folders)
        curve.update(p, truth)
        assert found.classes[0].measures["cpm"].value == pytest.approx(curve.compute()["cpm"].item())
    with pytest.raises(ValueError, match="min_overlap: expected None with tolerance above 0"):
        evaluate(folders.predictions, folders.masks, lesions=True, min_overlap=0.5, tolerance=1.0, **FEW)


def test_vessels(folders: Folders, tmp_path: Path) -> None:
    lines = np.zeros_like(folders.truth)
    lines[:, 10:13, 5:60] = lines[:, 5:44, 30:32] = True
    folders.truth[:] = lines
    for number, mask in enumerate(lines):
        Image.fromarray(mask).save(folders.masks / f"{number}_manual1.gif")
    p = np.clip(0.7 * ndimage.gaussian_filter(lines.astype(np.float32), (0, 0.7, 0.7)) + folders.levels / 1000, 0, 1)
    folder = folders.write("lines", p.astype(np.float32))
    found = evaluate(folder, folders.masks, fov=folders.fields, vessels=True, **FEW)
    truth, mask = torch.from_numpy(lines), torch.from_numpy(folders.fov.copy())
    predicted = torch.from_numpy(p.astype(np.float32)) >= 0.5
    expected = cl_dice(predicted, truth, mask)
    assert [row["cl_dice"] for row in found.rows] == pytest.approx(expected.tolist())
    thickness = thickness_error(predicted, truth, mask)
    measures = found.classes[0].measures
    assert measures["thickness_error"].value == pytest.approx(thickness.mean_absolute_error.item())
    assert found.classes[0].details["vessels"] == {
        "num_segments": int(thickness.segments),
        "num_missed_segments": int(thickness.missed),
    }
    assert measures["cl_dice"].mean == pytest.approx(expected.mean().item())
    assert math.isnan(measures["cl_dice"].value)
    paths = found.save(tmp_path / "out", picture=False)
    assert [path.name for path in paths] == ["evaluation.json", "per_image.csv"]
    assert json.loads(paths[0].read_text())["classes"][""]["measures"]["cl_dice"]["value"] is None
    with paths[1].open() as file:
        assert {"cl_dice", "thickness_error", "missed_segments"} <= set(next(csv.DictReader(file)))


def test_no_lesion_at_all(folders: Folders) -> None:
    for path in folders.masks.iterdir():
        Image.fromarray(np.zeros((48, 64), bool)).save(path)
    found = evaluate(folders.predictions, folders.masks, lesions=True, vessels=True, **FEW)
    measures = found.classes[0].measures
    assert math.isnan(measures["lesion_recall"].value)
    assert measures["lesion_precision"].value == 0
    assert found.classes[0].details["lesions"]["froc"]["recall"] == []
    assert "-" in found.table()
    found.figure()
