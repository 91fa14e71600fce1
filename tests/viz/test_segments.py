"""The picture of segments: what is painted where, colours, lines and numbers before drawing, errors, the import."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from rarepixel import functional, viz
from rarepixel.segments import SegmentMap, segment_map
from rarepixel.viz import _paint as paint

# ---- A vessel of which a prediction makes everything that it can ----------------------------------------------------

HEIGHT, WIDTH = 40, 150
ROW = 18  # of the skeleton
# Columns well inside of what the prediction makes of the vessel.
RIGHT, THIN, MISSED, THICK, TWICE = 12, 34, 56, 78, 115
FALSE_ALARM = (4, 7)  # row and column of its middle


@pytest.fixture(scope="module")
def vessel() -> Tensor:
    target = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    target[16:21, 3:147] = True
    return target


@pytest.fixture(scope="module")
def found(vessel: Tensor) -> SegmentMap:
    return segment_map(vessel, margin=4)


@pytest.fixture(scope="module")
def predicted(vessel: Tensor) -> Tensor:
    prediction = vessel.clone()
    prediction[:, 22:46] = False
    prediction[17:20, 22:46] = True
    prediction[:, 46:68] = False
    prediction[15:22, 68:88] = True
    prediction[13:24, 88:147] = True
    prediction[3:6, 6:9] = True
    return prediction


@pytest.fixture(scope="module")
def photo(vessel: Tensor) -> Tensor:
    return 0.8 - 0.4 * vessel.float() + torch.linspace(0, 0.1, WIDTH)


def shown(figure: Figure, panel: int) -> Any:
    """The (H, W, 3) array under a panel's lines."""
    (image,) = figure.axes[panel].images
    return np.asarray(image.get_array())


def close(colour: Any, expected: Any) -> bool:
    return bool(np.allclose(colour, to_rgb(expected) if isinstance(expected, str) else expected, atol=0.01))


def key(figure: Figure, panel: int) -> list[str]:
    legend = figure.axes[panel].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_each_range_has_the_colour_of_what_the_prediction_makes_of_its_segment(
    photo: Tensor, vessel: Tensor, found: SegmentMap, predicted: Tensor
) -> None:
    painted = shown(viz.segments(photo, vessel, found, predicted), panel=2)
    for row in (ROW, ROW + 2, ROW + 4):  # skeleton, vessel and the rest of the range
        assert close(painted[row, RIGHT], paint.RIGHT)
        assert close(painted[row, MISSED], paint.MISSED)
        assert close(painted[row, TWICE], paint.TOO_THICK)
        red, _, blue = painted[row, THIN] - painted[row, RIGHT]
        assert red > 0 > blue
        red, _, blue = painted[row, THICK] - painted[row, RIGHT]
        assert blue > 0 > red
    assert close(painted[FALSE_ALARM], paint.FALSE_ALARM)
    red, green, blue = painted[34, 60]  # far from everything: the photo, grey and dark
    assert red == green == blue < 0.45


def test_what_is_drawn_is_what_is_painted(photo: Tensor, vessel: Tensor, found: SegmentMap, predicted: Tensor) -> None:
    figure = viz.segments(photo, vessel, found, predicted)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] / 255

    def at(panel: int, row: float, column: int) -> Any:
        x, y = figure.axes[panel].transData.transform((column, row))
        return pixels[pixels.shape[0] - 1 - int(y), int(x)]

    def has_line(panel: int, row: float, column: int) -> bool:
        around = (at(panel, row + shift, column) for shift in np.linspace(-0.3, 0.3, 7))
        return min(colour.max() for colour in around) < 0.35

    # Around the annotation, and around the prediction.
    assert has_line(1, 15.5, MISSED)
    assert has_line(1, 20.5, MISSED)
    assert not has_line(1, 14, MISSED)
    assert has_line(2, 16.5, THIN)
    assert not has_line(2, 15.5, THIN)
    assert not has_line(2, 15.5, MISSED)
    assert close(at(2, ROW, MISSED), paint.MISSED)
    assert close(at(2, *FALSE_ALARM), paint.FALSE_ALARM)
    owner = -int(found.ids[ROW, MISSED])
    colour = paint.PALETTE[paint.colour_numbers(found.ids.long().numpy())[owner]]
    assert close(at(0, ROW, MISSED), colour)
    assert close(at(1, ROW, MISSED), paint.lighter(colour))


def test_the_panels_say_how_many(photo: Tensor, vessel: Tensor, found: SegmentMap, predicted: Tensor) -> None:
    figure = viz.segments(photo, vessel, found, predicted)
    logits = torch.where(predicted, 1.0, -1.0)[None, None]
    _, stats = functional.segment_thickness(logits, vessel[None, None], found, return_stats=True)
    missed = int((stats.predicted_thickness == 0).sum())
    assert 0 < missed < len(found)
    assert figure.axes[0].get_title() == f"{len(found)} segments"
    assert key(figure, 1) == ["range of a segment", "annotation"]
    assert key(figure, 2) == [f"missed ({missed} of {len(found)})", "false alarm", "prediction"]
    assert "predicted / annotated thickness" in figure.axes[3].get_ylabel()


def test_without_a_prediction_there_are_two_panels_and_no_scale(
    photo: Tensor, vessel: Tensor, found: SegmentMap
) -> None:
    figure = viz.segments(photo, vessel, found)
    assert [axes.get_title() for axes in figure.axes] == [f"{len(found)} segments", "Their ranges"]
    assert close(shown(figure, 0), photo.numpy()[..., None])


def test_ranges_are_coloured_where_they_are(photo: Tensor, vessel: Tensor, found: SegmentMap) -> None:
    painted = shown(viz.segments(photo, vessel, found), panel=1)
    ids = found.ids.long().numpy()
    expected = paint.lighter(paint.PALETTE[paint.colour_numbers(ids)])
    for number in range(1, len(found) + 1):
        assert close(painted[abs(ids) == number], expected[number])
    grey = painted[ids == 0]
    assert (grey == grey[:, :1]).all()


# ---- All that may be given ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def panels(photo: Tensor, vessel: Tensor, found: SegmentMap, predicted: Tensor) -> list[Any]:
    figure = viz.segments(photo, vessel, found, predicted)
    return [shown(figure, panel) for panel in range(3)]


FORMS = {
    "images with a channel": lambda image, target, found, p: (image[None], target[None], found.ids[None], p[None]),
    "three channels": lambda image, target, found, p: (image.expand(3, -1, -1), target, found, p),
    "float64": lambda image, target, found, p: (image.double(), target.double(), found, p.double()),
    "id map": lambda image, target, found, p: (image, target, found.ids, p),
    "batch of one": lambda image, target, found, p: (image, target, SegmentMap.stack([found]), p),
    "large ids": lambda image, target, found, p: (image, target, found.ids * 250_000_000, p),
    "integer labels": lambda image, target, found, p: (image, target.long(), found, p),
    "probabilities": lambda image, target, found, p: (image, target, found, torch.where(p, 0.5, 0.4999)),
    "half probabilities": lambda image, target, found, p: (image, target, found, torch.where(p, 0.9, 0.1).half()),
    "with gradient": lambda image, target, found, p: (
        image.clone().requires_grad_(),
        target,
        found,
        p.float().requires_grad_(),
    ),
    "strided": lambda image, target, found, p: (image.T.contiguous().T, target.T.contiguous().T, found, p),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_gives_the_same(
    form: str, photo: Tensor, vessel: Tensor, found: SegmentMap, predicted: Tensor, panels: list[Any]
) -> None:
    if form == "large ids":
        found = segment_map(vessel, margin=4, max_length=100)
        assert len(found) < 9
        figure = viz.segments(photo, vessel, found, predicted)
        panels = [shown(figure, panel) for panel in range(3)]
    before = [tensor.clone() for tensor in (photo, vessel, found.ids, predicted)]
    figure = viz.segments(*FORMS[form](photo, vessel, found, predicted))
    for panel, expected in enumerate(panels):
        np.testing.assert_allclose(shown(figure, panel), expected, atol=1e-6)
    for tensor, kept in zip((photo, vessel, found.ids, predicted), before, strict=True):
        assert torch.equal(tensor, kept)


def test_bytes_are_255_times_what_floats_are(photo: Tensor, vessel: Tensor, found: SegmentMap) -> None:
    image = torch.stack([photo, photo / 2, photo / 3])
    floats = viz.segments(image, vessel, found)
    levels = viz.segments((255 * image).round().to(torch.uint8), vessel, found)
    for panel in range(2):
        np.testing.assert_allclose(shown(floats, panel), shown(levels, panel), atol=0.01)
    assert close(shown(floats, 0), image.permute(1, 2, 0).numpy())


def test_a_crop_keeps_the_ids_of_the_whole_image(
    photo: Tensor, vessel: Tensor, found: SegmentMap, predicted: Tensor
) -> None:
    crop = (..., slice(5, 35), slice(30, 150))
    figure = viz.segments(photo[crop], vessel[crop], found.ids[crop], predicted[crop])
    painted = shown(figure, 2)
    assert close(painted[ROW - 5, MISSED - 30], paint.MISSED)
    assert close(painted[ROW - 5, TWICE - 30], paint.TOO_THICK)
    assert figure.axes[0].get_title() == f"{(found.ids[crop].unique() < 0).sum()} segments"


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (20, 300), (300, 20)])
@pytest.mark.parametrize("label", [False, True])
def test_every_size_can_be_saved(size: tuple[int, int], label: bool) -> None:
    target = torch.full(size, label)
    figure = viz.segments(torch.zeros(size), target, segment_map(target), ~target)
    file = io.BytesIO()
    figure.savefig(file, dpi=50)
    assert file.getvalue().startswith(b"\x89PNG")


def test_panels_are_of_one_size_and_the_figure_is_no_larger_for_a_larger_image() -> None:
    figures = []
    for size in ((60, 80), (600, 800)):
        target = torch.zeros(size, dtype=torch.bool)
        target[20:24, 10:70] = True
        figures.append(viz.segments(torch.zeros(size), target, segment_map(target), target))
    small, large = figures
    for axes in large.axes[:3]:  # whole pixels, the first row on top
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 799.5), (599.5, -0.5))
    assert small.get_size_inches().tolist() == large.get_size_inches().tolist()
    boxes = [axes.get_position() for axes in large.axes[:3]]
    assert len({(round(box.width, 6), round(box.height, 6), round(box.y0, 6)) for box in boxes}) == 1
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


# ---- Before drawing -------------------------------------------------------------------------------------------------


def _touching(ids: Any) -> set[tuple[int, int]]:
    pairs = set()
    height, width = ids.shape
    for row in range(height):
        for column in range(width):
            for y in range(max(row - 1, 0), min(row + 2, height)):
                for x in range(max(column - 1, 0), min(column + 2, width)):
                    one, other = abs(int(ids[row, column])), abs(int(ids[y, x]))
                    if one and other and one != other:
                        pairs.add((one, other))
    return pairs


@pytest.mark.parametrize("seed", range(8))
def test_segments_that_touch_differ_in_colour(seed: int) -> None:
    noise = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(seed))
    target = torch.nn.functional.avg_pool2d(noise, 7, stride=1, padding=3)[0, 0] > 0.48
    ids = segment_map(target, max_length=5, margin=4).ids.long().numpy()
    numbers = paint.colour_numbers(ids)
    pairs = _touching(ids)
    assert len(pairs) > 50
    assert all(numbers[one] != numbers[other] for one, other in pairs)


def test_along_a_vessel_two_colours_alternate(found: SegmentMap) -> None:
    numbers = paint.colour_numbers(found.ids.long().numpy())[1:]
    assert set(numbers.tolist()) == {0, 1}
    assert (numbers[1:] != numbers[:-1]).all()


def test_more_neighbours_than_colours_are_coloured_all_the_same() -> None:
    several = len(paint.PALETTE) + 1
    ids = torch.randint(1, several + 1, (80, 80), generator=torch.Generator().manual_seed(0)).numpy()
    assert len(_touching(ids)) == several * (several - 1)
    numbers = paint.colour_numbers(ids)[1:]
    assert sorted(set(numbers.tolist())) == list(range(len(paint.PALETTE)))


@pytest.mark.parametrize("background", [0, 7])
def test_ids_count_from_one_and_keep_their_signs(background: int) -> None:
    ids = np.array([[-(2**31), -(2**31), 90], [background, -90, 2**31 - 1]])
    numbers = paint.renumbered(ids).tolist()
    if background:
        assert numbers == [[-4, -4, 2], [1, -2, 3]]
    else:
        assert numbers == [[-3, -3, 1], [0, -1, 2]]


def test_lines_join_the_skeleton_pixels_of_one_segment() -> None:
    ids = np.array(
        [
            [-1, -1, 0, 0, 2],
            [0, -1, 0, 0, -2],
            [0, 1, -1, -3, 3],
        ]
    )
    lines, owners = paint.skeleton_lines(ids)
    joined = {
        (int(owner), frozenset(map(tuple, line.tolist()))) for line, owner in zip(lines, owners, strict=True)
    }  # of (x, y)
    assert joined == {
        (1, frozenset({(0, 0), (1, 0)})),
        (1, frozenset({(1, 0), (1, 1)})),  # and not (0, 0) to (1, 1), across the corner
        (1, frozenset({(1, 1), (2, 2)})),
        (2, frozenset({(3.75, 1), (4.25, 1)})),  # single pixels: dots
        (3, frozenset({(2.75, 2), (3.25, 2)})),
    }


def test_the_ratio_is_what_the_loss_sees(vessel: Tensor, found: SegmentMap, predicted: Tensor) -> None:
    ratios = paint.thickness_ratios(vessel.numpy(), found.ids.long().numpy(), predicted.numpy())
    logits = torch.where(predicted, 1.0, -1.0)[None, None]
    _, stats = functional.segment_thickness(logits, vessel[None, None], found, return_stats=True)
    assert np.isnan(ratios[0])
    np.testing.assert_allclose(1 - abs(ratios[1:] - 1), stats.similarity.numpy(), rtol=1e-5)
    at = {column: ratios[-int(found.ids[ROW, column])] for column in (RIGHT, THIN, MISSED, THICK)}
    assert at == {RIGHT: 1, THIN: pytest.approx(3 / 5), MISSED: 0, THICK: pytest.approx(7 / 5)}
    assert ratios[-int(found.ids[ROW, TWICE])] > 2


def test_a_segment_without_skeleton_is_not_scored_and_one_without_vessel_is_missed() -> None:
    ids = np.zeros((12, 30), dtype=np.int64)
    ids[2:9, 2:10], ids[2:9, 10:20], ids[2:9, 20:28] = 1, 2, 3
    ids[5, 10:20], ids[5, 20:28] = -2, -3
    truth = np.zeros((12, 30), dtype=bool)
    truth[4:7, 2:20] = True
    predicted = np.zeros((12, 30), dtype=bool)
    predicted[4:7, 2:28] = True
    ratios = paint.thickness_ratios(truth, ids, predicted)
    assert np.isnan(ratios[1])
    assert ratios[2] == pytest.approx(1, abs=0.1)
    assert ratios[3] == 0
    base = np.full((12, 30, 3), 0.3, dtype=np.float32)
    painted = paint.paint(base, ids, paint.thickness_colours(ratios))
    assert close(painted[5, 5], [0.3, 0.3, 0.3])
    assert close(painted[5, 24], paint.MISSED)
    assert (base == np.float32(0.3)).all()


def test_the_scale_is_grey_at_one_and_ends_at_twice_the_thickness() -> None:
    ends = paint.thickness_colours(np.array([0, 1, 2, 7, np.nan]))
    for colour, expected in zip(ends, (paint.MISSED, paint.RIGHT, paint.TOO_THICK, paint.TOO_THICK), strict=False):
        assert close(colour, expected)
    assert np.isnan(ends[4]).all()
    half = paint.thickness_colours(np.array([0.5, 1.5]))
    assert close(half[0], (np.array(to_rgb(paint.MISSED)) + to_rgb(paint.RIGHT)) / 2)
    assert close(half[1], (np.array(to_rgb(paint.TOO_THICK)) + to_rgb(paint.RIGHT)) / 2)


def test_false_alarms_of_large_images_are_drawn_larger_but_never_into_a_range() -> None:
    target = torch.zeros(700, 900, dtype=torch.bool)
    target[300:304, 100:800] = True
    found = segment_map(target)
    edge = int((found.ids[:300, 400] != 0).nonzero()[0])  # the first row of a range
    prediction = target.clone()
    prediction[50, 60] = True
    prediction[edge - 1, 400] = True
    painted = shown(viz.segments(torch.zeros(700, 900), target, found, prediction), panel=2)
    alarm = np.isclose(painted, to_rgb(paint.FALSE_ALARM), atol=0.01).all(axis=-1)
    rows, columns = np.nonzero(alarm[40:60, 50:70])
    assert rows.min() + 40 == 50 - (rows.max() + 40 - 50) < 50
    assert rows.max() - rows.min() == columns.max() - columns.min() <= 8
    assert alarm[edge - 1, 399:402].all()
    assert not alarm[found.ids.numpy() != 0].any()


def test_no_false_alarm_where_the_annotation_has_vessels_that_no_segment_covers() -> None:
    target = torch.zeros(30, 40, dtype=torch.bool)
    target[5, 5:35] = True
    target[20, 20:22] = True  # shorter than a segment
    found = segment_map(target)
    assert not (found.ids[18:23] != 0).any()
    prediction = torch.zeros_like(target)
    prediction[20, 19:23] = True
    painted = shown(viz.segments(torch.zeros(30, 40), target, found, prediction), panel=2)
    alarm = np.isclose(painted, to_rgb(paint.FALSE_ALARM), atol=0.01).all(axis=-1)
    assert np.argwhere(alarm).tolist() == [[20, 19], [20, 22]]


# ---- Errors ---------------------------------------------------------------------------------------------------------

IMAGE = torch.zeros(8, 9)
TARGET = torch.zeros(8, 9, dtype=torch.bool)
IDS = torch.zeros(8, 9, dtype=torch.int32)

ERRORS = [
    ({"image": IMAGE.numpy()}, TypeError, "image: expected a torch.Tensor, got ndarray"),
    ({"image": IMAGE.long()}, TypeError, "image: expected dtype uint8 or floating, got int64"),
    ({"image": IMAGE.bool()}, TypeError, "image: expected dtype uint8 or floating, got bool"),
    (
        {"image": torch.zeros(8, 9, 3)},
        ValueError,
        "image: expected shape (H, W), (1, H, W) or (3, H, W), got (8, 9, 3)",
    ),
    (
        {"image": torch.zeros(0, 9)},
        ValueError,
        "image: expected shape (H, W), (1, H, W) or (3, H, W), got (0, 9)",
    ),
    ({"image": IMAGE - 0.5}, ValueError, "image: expected values from 0 to 1, got -0.5"),
    ({"image": IMAGE + torch.nan}, ValueError, "image: expected values from 0 to 1, got nan"),
    ({"image": IMAGE.to_sparse()}, TypeError, "image: expected a dense tensor, got layout torch.sparse_coo"),
    ({"target": None}, TypeError, "target: expected a torch.Tensor, got NoneType"),
    (
        {"target": TARGET[:7]},
        ValueError,
        "target: expected shape (8, 9) or (1, 8, 9), as the image, got (7, 9)",
    ),
    ({"target": TARGET + 255}, ValueError, "target: expected labels 0 and 1, got 255"),
    ({"target": TARGET + 0j}, TypeError, "target: expected dtype bool, integer or floating, got complex64"),
    ({"segments": [IDS]}, TypeError, "segments: expected a SegmentMap or an int32 id map, got list"),
    ({"segments": IDS.long()}, TypeError, "segments: expected ids of dtype int32, got int64"),
    (
        {"segments": segment_map(torch.zeros(2, 8, 9))},
        ValueError,
        "segments: expected shape (8, 9) or (1, 8, 9), as the image, got (2, 8, 9)",
    ),
    ({"prediction": TARGET.numpy()}, TypeError, "prediction: expected a torch.Tensor, got ndarray"),
    ({"prediction": TARGET.int()}, TypeError, "prediction: expected dtype bool or floating, got int32"),
    (
        {"prediction": TARGET[None, None]},
        ValueError,
        "prediction: expected shape (8, 9) or (1, 8, 9), as the image, got (1, 1, 8, 9)",
    ),
    (
        {"prediction": IMAGE + 1.5},
        ValueError,
        "prediction: expected a bool mask or probabilities from 0 to 1, got 1.5",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "text"), ERRORS, ids=lambda value: value if isinstance(value, str) else "")
def test_errors_name_the_argument_what_was_expected_and_what_came(
    wrong: dict[str, Any], error: type[Exception], text: str
) -> None:
    arguments = {"image": IMAGE, "target": TARGET, "segments": IDS, **wrong}
    with pytest.raises(error) as raised:
        viz.segments(**arguments)
    assert str(raised.value) == text


# ---- The import, and the README's picture ---------------------------------------------------------------------------


def test_matplotlib_is_asked_for_by_viz_alone_and_pyplot_by_nobody() -> None:
    code = """if True:
        import sys
        import rarepixel
        assert not [name for name in sys.modules if name.startswith(("matplotlib", "rarepixel.viz"))]
        sys.modules["matplotlib"] = None
        try:
            import rarepixel.viz
        except ImportError as error:
            print(error)
        del sys.modules["matplotlib"]
        import rarepixel.viz
        assert callable(rarepixel.viz.segments)
        assert "matplotlib.pyplot" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "expected matplotlib" in done.stdout
    assert "pip install rarepixel[viz]" in done.stdout


def test_the_picture_of_the_readme_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    from PIL import Image

    from examples.segments_picture import annotated_retina, main, with_errors

    _, vessels = annotated_retina()
    predicted = with_errors(vessels)
    assert (predicted & ~vessels).any()
    assert (vessels & ~predicted).any()
    main(["--out", str(tmp_path / "new" / "picture.png")])
    assert (tmp_path / "new" / "picture.png").stat().st_size < 250_000
    with Image.open(tmp_path / "new" / "picture.png") as picture:
        assert 1400 < picture.width < 1600
