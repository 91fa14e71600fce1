"""Frames of pixel maps: one scale, the GIF and its colours, sizes, the strip, errors."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("matplotlib")

from PIL import Image

from rarepixel import viz
from rarepixel.viz import _pixel_frames as frames_module
from rarepixel.viz import _pixel_frames_page as page_module

STEPS = (0, 150, 300)


@pytest.fixture(scope="module")
def target() -> Tensor:
    found = torch.zeros(40, 48, dtype=torch.bool)
    found[10:14, 10:15] = True
    return found


@pytest.fixture(scope="module")
def frames(target: Tensor) -> viz.PixelFrames:
    noise = torch.randn(1, 40, 48, generator=torch.Generator().manual_seed(0))
    return viz.PixelFrames(
        [
            (
                f"step {step}",
                viz.pixels(noise - 2 + step / 75 * target, None, target, ["bce", "dice"], title="One image"),
            )
            for step in STEPS
        ]
    )


def test_one_scale_is_of_all_frames(frames: viz.PixelFrames) -> None:
    largest = max(np.abs(maps.pull(name)).max() for maps in frames.maps for name in frames.loss_names)
    assert frames.scales.pull.largest == largest
    assert frames.labels == ["step 0", "step 150", "step 300"]
    assert [one["lesion"] for one in frames.shares["dice"]] == [maps.shares["dice"]["lesion"] for maps in frames.maps]
    assert frames.shares["bce"][0]["lesion"] > frames.shares["bce"][2]["lesion"]  # lesions are found


def test_the_film_has_all_frames_in_the_colours_of_the_scale(frames: viz.PixelFrames, tmp_path: Path) -> None:
    with Image.open(frames.save(tmp_path / "film.gif")) as film:
        assert film.n_frames == len(STEPS)
        assert film.info["loop"] == 0
        shown = []
        for place in range(film.n_frames):
            film.seek(place)
            shown.append(np.asarray(film.convert("RGB")).astype(int))
            assert film.info["duration"] in (700, 2100)
    assert (shown[0] != shown[2]).any()
    seen = {tuple(colour) for frame in shown for colour in frame.reshape(-1, 3)}
    palette = np.array(frames._palette().getpalette()).reshape(-1, 3)
    assert seen <= {tuple(colour) for colour in palette.tolist()}


def test_a_film_that_is_too_large_leaves_frames_out(frames: viz.PixelFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    whole = frames._film_of

    def film_of(places: Any, dpi: int) -> bytes:
        content = whole(places, dpi)
        sizes.append((len(places), dpi))
        return content

    monkeypatch.setattr(frames, "_film_of", film_of)
    monkeypatch.setattr(frames_module, "_LARGEST", 10)
    with Image.open(io.BytesIO(frames._film())) as film:
        assert film.n_frames == 2
    assert sizes[:3] == [(3, 100), (3, 72), (2, 100)]


def test_a_page_that_is_too_large_has_fewer_pixels_then_frames(
    frames: viz.PixelFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = page_module.page(frames.labels, frames.maps, frames.scales)
    assert whole.count("<li>step ") == 3
    assert "left out" not in whole
    monkeypatch.setattr(page_module, "_LONGEST", (512, 8))
    monkeypatch.setattr(page_module, "LARGEST", len(whole.encode()) - 1)
    smaller = page_module.page(frames.labels, frames.maps, frames.scales)
    assert "pixels the largest is shown" in smaller
    monkeypatch.setattr(page_module, "LARGEST", len(smaller.encode()) - 1)
    fewer = page_module.page(frames.labels, frames.maps, frames.scales)
    assert fewer.count("<li>step ") == 2
    assert "1 of 3 frames are left out" in fewer
    monkeypatch.setattr(page_module, "LARGEST", 100)
    with pytest.raises(ValueError, match="show fewer losses"):
        page_module.page(frames.labels, frames.maps, frames.scales)


def test_the_strip_shows_first_and_last(frames: viz.PixelFrames) -> None:
    many = viz.PixelFrames([(f"step {step}", frames.maps[step % 3]) for step in range(20)])
    texts = [text.get_text() for text in many.figure().texts]
    assert {"step 0", "step 19"} <= set(texts)
    assert sum(text.startswith("step ") for text in texts) == 7
    assert any("13 of 20 frames are left out" in text for text in texts)


def test_the_chart_has_every_frame(frames: viz.PixelFrames) -> None:
    chart = page_module._chart(frames.labels, frames.maps, [0, 2], "bce")
    share = frames.maps[1].shares["bce"]["lesion"]
    middle = (
        f"L{page_module._LEFT + page_module._WIDTH / 2:.1f} {page_module._TOP + page_module._HEIGHT * (1 - share):.1f}"
    )
    assert middle in chart


def test_a_frame_without_a_gradient_is_a_gap(target: Tensor) -> None:
    empty = torch.zeros_like(target)
    found = viz.PixelFrames([("a", viz.pixels(torch.zeros(1, 40, 48), None, empty, "top_k:k=0.1"))])
    assert math.isnan(found.shares["top_k:k=0.1"][0]["lesion"])
    assert "no pixel has a gradient" in page_module.page(found.labels, found.maps, found.scales)


def test_errors(frames: viz.PixelFrames, target: Tensor) -> None:
    maps = frames.maps[0]
    other = viz.pixels(torch.zeros(1, 40, 48), None, target.roll(1, 0), ["bce", "dice"])
    third = viz.pixels(torch.zeros(1, 40, 48), None, target, ["bce"])
    with pytest.raises(ValueError, match="at least one"):
        viz.PixelFrames([])
    with pytest.raises(TypeError, match="pairs of a label and pixel maps"):
        viz.PixelFrames([maps])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="each label once"):
        viz.PixelFrames([("a", maps), ("a", maps)])
    with pytest.raises(ValueError, match="another target in b than in a"):
        viz.PixelFrames([("a", maps), ("b", other)])
    with pytest.raises(ValueError, match="expected the losses bce, dice in each, got bce in b"):
        viz.PixelFrames([("a", maps), ("b", third)])
    with pytest.raises(ValueError, match="gif, html"):
        frames.save("film.mp4")
