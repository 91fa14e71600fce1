"""Thinning, thickness, segment maps: kernels against the twins, hand-drawn shapes, properties, files, errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory  # what a DataLoader does

from rarepixel import _library, segments
from rarepixel.reference import segments as reference
from rarepixel.segments import CachedSegmentMaps, SegmentMap, segment_map


def drawn(height: int, width: int, draw: Callable[[Tensor], None]) -> Tensor:
    image = torch.zeros(height, width, dtype=torch.bool)
    draw(image)
    return image


def _ring(image: Tensor) -> None:
    rows, columns = torch.meshgrid(torch.arange(40) - 20, torch.arange(70) - 35, indexing="ij")
    distance = (rows**2 + columns**2).float().sqrt()
    image[(distance > 11) & (distance < 15)] = True


def _cross(image: Tensor) -> None:
    image[18:21] = True
    image[:, 30:33] = True


def _comb(image: Tensor) -> None:
    image[30:33] = True
    image[5:30, ::8] = True


def _staircase(image: Tensor) -> None:
    for step in range(34):
        image[step : step + 2, 2 * step : 2 * step + 2] = True


def _borders(image: Tensor) -> None:
    image[0], image[-1], image[:, 0], image[:, -1] = True, True, True, True


def _one_pixel(image: Tensor) -> None:
    image[7, 9] = True


def _line(image: Tensor) -> None:
    image[12, 3:67] = True


def _blocks(image: Tensor) -> None:
    image[2:30, 3:25] = True
    image[5:35, 40:64] = True


SHAPES = {
    "empty": drawn(40, 70, lambda _: None),
    "full": drawn(40, 70, lambda image: image.fill_(True)),
    "ring": drawn(40, 70, _ring),
    "cross": drawn(40, 70, _cross),
    "comb": drawn(40, 70, _comb),
    "staircase": drawn(40, 70, _staircase),
    "borders": drawn(40, 70, _borders),
    "one_pixel": drawn(40, 70, _one_pixel),
    "line": drawn(40, 70, _line),
    "blocks": drawn(40, 70, _blocks),
    "one_row": torch.ones(1, 70, dtype=torch.bool),
    "one_column": torch.ones(40, 1, dtype=torch.bool),
    "single": torch.ones(1, 1, dtype=torch.bool),
    "two_words": drawn(5, 128, lambda image: image[1:4, 60:70].fill_(True)),
}
by_shape = pytest.mark.parametrize("shape", SHAPES)
images = st.builds(
    lambda height, width, density, seed: (
        torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < density
    ),
    st.integers(1, 40), st.integers(1, 140), st.floats(0, 1), st.integers(0, 2**32 - 1),
)  # fmt: skip


def smooth(height: int, width: int, level: float, seed: int) -> Tensor:
    """Blobs and bridges, as annotations have them."""
    noise = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    blurred = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)[0, 0]
    return blurred > level


blobs = st.builds(smooth, st.integers(5, 60), st.integers(5, 90), st.floats(0.4, 0.6), st.integers(0, 2**32 - 1))


# ---- Thinning -------------------------------------------------------------------------------------------------------


@by_shape
def test_thin_matches_the_twin(shape: str) -> None:
    assert torch.equal(segments.thin(SHAPES[shape]), reference.thin(SHAPES[shape]))


@settings(max_examples=300, deadline=None)
@given(st.one_of(images, blobs))
def test_thin_matches_the_twin_on_any_image(image: Tensor) -> None:
    assert torch.equal(segments.thin(image), reference.thin(image))


def _disc(image: Tensor) -> None:
    rows, columns = torch.meshgrid(torch.arange(140) - 98, torch.arange(150) - 105, indexing="ij")
    image[rows**2 + columns**2 <= 37**2] = True


def _zipper(image: Tensor) -> None:
    image[2:6], image[:, ::2], image[:2, -1] = True, True, True


# A GPU cuts images into tiles of 128 x 128 pixels, and thins them 64 subiterations at a time.
OF_MANY_TILES = {
    "disc": drawn(140, 150, _disc),  # takes as many subiterations as it is thick
    "zipper": drawn(8, 300, _zipper),  # as many as it is long: it opens column by column
    "blobs": smooth(140, 260, 0.48, 1),
}


@pytest.mark.parametrize("shape", OF_MANY_TILES)
def test_thin_matches_the_twin_across_tiles(shape: str) -> None:
    image = OF_MANY_TILES[shape]
    batch = torch.stack([image, torch.zeros_like(image), image])
    expected = reference.thin(image)
    assert torch.equal(segments.thin(image), expected)
    assert torch.equal(segments.thin(batch), torch.stack([expected, batch[1], expected]))


@settings(max_examples=60, deadline=None)
@given(blobs)
def test_a_skeleton_is_thin_already_and_lies_in_the_shape(image: Tensor) -> None:
    skeleton = segments.thin(image)
    assert torch.equal(segments.thin(skeleton), skeleton)
    assert not (skeleton & ~image).any()


def test_thin_equals_scikit_image() -> None:
    morphology = pytest.importorskip("skimage.morphology")
    for seed in range(20):
        image = smooth(80, 130, 0.48, seed)
        assert torch.equal(segments.thin(image), torch.from_numpy(morphology.thin(image.numpy())))


def test_thin_takes_batches_dtypes_and_layouts() -> None:
    batch = torch.stack([smooth(40, 70, level, seed) for seed, level in enumerate((0.45, 0.5, 0.55))])
    expected = torch.stack([reference.thin(image) for image in batch])
    for dtype in (torch.bool, torch.uint8, torch.uint16, torch.int64, torch.float32, torch.float64):
        assert torch.equal(segments.thin(batch.to(dtype)), expected)
    assert torch.equal(segments.thin(batch.to(torch.uint8) * 255), expected)
    assert torch.equal(segments.thin(batch[:, None]), expected[:, None])
    assert torch.equal(segments.thin(batch.mT.contiguous().mT), expected)
    assert torch.equal(segments.thin(batch.mT), torch.stack([reference.thin(image) for image in batch.mT]))
    assert segments.thin(torch.zeros(0, 5, 5)).shape == (0, 5, 5)
    assert segments.thin(torch.zeros(2, 0, 5)).shape == (2, 0, 5)


# ---- Thickness ------------------------------------------------------------------------------------------------------


@by_shape
def test_thickness_matches_the_twin(shape: str) -> None:
    image = SHAPES[shape]
    torch.testing.assert_close(segments.thickness(image), reference.thickness(image, reference.thin(image)))


@settings(max_examples=60, deadline=None)
@given(blobs)
def test_thickness_matches_the_twin_on_any_image(image: Tensor) -> None:
    torch.testing.assert_close(segments.thickness(image), reference.thickness(image, reference.thin(image)))


def test_thickness_of_a_bar() -> None:
    bar = torch.zeros(50, 60, dtype=torch.bool)
    bar[20:27] = True  # seven rows: the middle one is four from either side
    assert segments.thickness(bar)[23, 30] == 4
    assert (segments.thickness(torch.ones(50, 60)) <= 11).all()
    wide = torch.zeros(50, 60)
    wide[10:41] = 1
    everywhere = segments.thickness(wide, torch.ones(50, 60, dtype=torch.bool))
    assert everywhere[25, 30] == 11  # no background within 10
    assert everywhere[19, 30] == 10
    assert everywhere[0, 0] == 0


# ---- Segment maps ---------------------------------------------------------------------------------------------------


def assert_maps_equal(image: Tensor, view: Tensor, **options: Any) -> SegmentMap | None:
    """The kernels' map and the twin's."""
    merged = {"min_length": 4, "max_length": 8, "margin": 2.0, "original": False, **options}
    skeleton = reference.thin(image)
    distances = reference.thickness(image, skeleton, 100.0 if merged["original"] else 11.0)
    ids, pixels, offsets, complete = reference.segment_map(
        skeleton, distances, view, merged["min_length"], merged["max_length"], merged["margin"], merged["original"]
    )
    if not complete:
        with pytest.raises(ValueError, match=r"target: image 0 has a closed loop"):
            segment_map(image, mask=view, **merged)
        return None
    found = segment_map(image, mask=view, **merged)
    assert torch.equal(found.ids, ids)
    assert torch.equal(found.offsets, offsets)
    assert torch.equal(found.pixels, pixels)
    return found


@by_shape
@pytest.mark.parametrize("original", [False, True], ids=["default", "original"])
def test_map_matches_the_twin(shape: str, original: bool) -> None:
    image = SHAPES[shape]
    assert_maps_equal(image, torch.ones_like(image), original=original)
    view = torch.arange(image.shape[1]).expand(image.shape) < 2 * image.shape[1] // 3
    assert_maps_equal(image, view, original=original)


@settings(max_examples=120, deadline=None)
@given(st.one_of(images, blobs), st.booleans(), st.integers(1, 6), st.integers(1, 12), st.floats(0, 5))
def test_map_matches_the_twin_on_any_image(
    image: Tensor, original: bool, min_length: int, max_length: int, margin: float
) -> None:
    options = {"min_length": min_length, "max_length": max_length, "margin": margin, "original": original}
    assert_maps_equal(image, torch.ones_like(image), **options)


@settings(max_examples=60, deadline=None)
@given(blobs, st.integers(1, 6), st.integers(1, 12))
def test_what_a_map_promises(image: Tensor, min_length: int, max_length: int) -> None:
    found = segment_map(image, min_length=min_length, max_length=max_length)
    skeleton = segments.thin(image)
    assert found.lengths.numel() == 0 or int(found.lengths.max()) <= max_length
    assert found.pixels.unique().numel() == found.pixels.numel()  # unique ids: no pixel has two
    for number in range(len(found)):
        pixels = found.pixels[found.offsets[number] : found.offsets[number + 1]]
        rows, columns = pixels // image.shape[1], pixels % image.shape[1]
        assert (found.ids[rows, columns] == -(number + 1)).all()
        assert skeleton[rows, columns].all()
        assert ((rows.diff().abs() <= 1) & (columns.diff().abs() <= 1)).all()  # neighbour by neighbour
        torch.testing.assert_close(found.mean_thickness[number], found.thickness[rows, columns].mean())
    on_skeleton = found.ids < 0
    assert int(on_skeleton.sum()) == found.pixels.numel()


def test_a_line_is_cut_into_nearly_equal_pieces() -> None:
    image = torch.zeros(9, 40, dtype=torch.bool)
    image[4, 3:30] = True  # 27 pixels: four pieces
    found = segment_map(image, margin=1.0)
    assert found.lengths.tolist() == [6, 7, 7, 7]
    # One pixel wide, so the nearest background is 1 away, and the range reaches 2.
    assert found.ids[4, 3:30].tolist() == [-1] * 6 + [-2] * 7 + [-3] * 7 + [-4] * 7
    assert found.ids[:, 6].tolist() == [0, 0, 1, 1, -1, 1, 1, 0, 0]
    assert found.ids[4, :3].tolist() == [0, 1, 1]


def test_a_pixel_between_two_segments_belongs_to_the_nearer_one() -> None:
    image = torch.zeros(20, 30, dtype=torch.bool)
    image[4, 5:12] = True
    image[9, 5:12] = True
    found = segment_map(image, margin=4.0)
    assert found.ids[:, 8].tolist() == [1, 1, 1, 1, -1, 1, 1, 2, 2, -2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0]
    image[10, 5:12], image[9, 5:12] = True, False
    tied = segment_map(image, margin=4.0)
    assert tied.ids[7, 8] == 1  # three from either: the lower id


def test_loops_are_cut_at_their_first_pixel() -> None:
    square = torch.zeros(20, 20, dtype=torch.bool)
    square[3:15, 4], square[3:15, 14], square[3, 4:15], square[14, 4:15] = True, True, True, True
    found = segment_map(square)
    skeleton = segments.thin(square)
    assert found.pixels.numel() == int(skeleton.sum())
    first = skeleton.T.nonzero()[0]
    assert found.pixels[0] == first[1] * 20 + first[0]
    with pytest.raises(ValueError, match="target: image 0 has a closed loop of at least 16 pixels"):
        segment_map(square, original=True)


def test_batches() -> None:
    batch = torch.stack([smooth(40, 60, 0.5, seed) for seed in range(3)])
    batch[1] = False
    found = segment_map(batch[:, None].float())
    start = 0
    for number, image in enumerate(batch):
        alone = segment_map(image)
        assert torch.equal(found.ids[number], alone.ids)
        mine = found.images == number
        assert torch.equal(found.lengths[mine], alone.lengths)
        torch.testing.assert_close(found.mean_thickness[mine], alone.mean_thickness)
        stop = start + alone.pixels.numel()
        assert torch.equal(found.pixels[start:stop], alone.pixels)
        start = stop
    assert len(found) == found.offsets.numel() - 1
    assert len(segment_map(torch.zeros(0, 8, 8))) == 0


# ---- Files ----------------------------------------------------------------------------------------------------------


def assert_same(one: SegmentMap, other: SegmentMap) -> None:
    for field in dataclasses.fields(SegmentMap):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine, theirs)


def test_save_and_load(tmp_path: Path) -> None:
    found = segment_map(smooth(40, 60, 0.5, 1))
    found.save(tmp_path / "map.npz")
    assert_same(SegmentMap.load(tmp_path / "map.npz"), found)
    assert [path.name for path in tmp_path.iterdir()] == ["map.npz"]


def test_maps_are_equal_by_value() -> None:
    one, same, other = (segment_map(SHAPES[shape]) for shape in ("comb", "comb", "cross"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != dataclasses.replace(same, thickness=same.thickness + 1)
    assert one != dataclasses.replace(same, ids=same.ids.long())
    assert one != "a map"
    assert {one, same, other} == {one, other}
    assert one.to("meta") != one
    with pytest.raises(TypeError, match=r"device: expected a torch\.device or its name, got torch\.float64"):
        one.to(torch.float64)  # type: ignore[arg-type]


def test_maps_go_where_batches_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = segment_map(SHAPES["comb"])
    assert found.to("cpu", non_blocking=True) == found.to(torch.device("cpu")) == found
    torch.save({"map": found}, tmp_path / "map.pt")
    assert torch.load(tmp_path / "map.pt", weights_only=True)["map"] == found
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    assert pin_memory([found])[0] == found
    assert len(pinned) == len(dataclasses.fields(SegmentMap))


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("library", [_library.CPU, _library.Library(False, "")], ids=["kernels", "reference"])
def test_defaults_of_dtype_and_device_change_nothing(
    original: bool, library: _library.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_library, "CPU", library)
    images = torch.stack([SHAPES["comb"][16:], torch.zeros_like(SHAPES["comb"][16:])])

    def results() -> tuple[SegmentMap, SegmentMap, Tensor]:
        found = segment_map(images, original=original)
        return found, segment_map(images[:0], original=original), segments.thickness(images)

    expected = results()
    for dtype, device in ((torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")):
        try:
            torch.set_default_dtype(dtype)
            torch.set_default_device(device)
            found = results()
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
        assert found[:2] == expected[:2]
        assert torch.equal(found[2], expected[2])


def test_load_refuses_something_else(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    numpy.savez(tmp_path / "other.npz", ids=numpy.zeros(3))
    with pytest.raises(ValueError, match=r"path: expected a segment map, got .*other\.npz without thickness, lengths"):
        SegmentMap.load(tmp_path / "other.npz")


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, other = smooth(40, 60, 0.5, 1), smooth(40, 60, 0.5, 2)
    transform = CachedSegmentMaps(tmp_path / "maps")
    first = transform(image)
    assert_same(first, segment_map(image))

    def refuse(*_: Any, **__: Any) -> SegmentMap:
        raise AssertionError("made anew")

    with monkeypatch.context() as patch:
        patch.setattr(segments, "segment_map", refuse)
        assert_same(transform(image), first)
        for different in (
            lambda: transform(other),
            lambda: transform(image, torch.ones_like(image)),
            lambda: CachedSegmentMaps(tmp_path / "maps", max_length=9)(image),
        ):
            with pytest.raises(AssertionError, match="made anew"):
                different()
    path = transform.path(image)
    path.write_bytes(path.read_bytes()[:100])  # cut short
    assert_same(transform(image), first)
    assert_same(SegmentMap.load(path), first)


# ---- Errors ---------------------------------------------------------------------------------------------------------

IMAGE = torch.zeros(8, 9)

ERRORS: list[Any] = [
    (lambda: segments.thin(IMAGE.numpy()), TypeError, r"mask: expected a torch\.Tensor, got ndarray"),
    (lambda: segments.thin(IMAGE + 0j), TypeError, "mask: expected dtype bool, uint8, .* got complex64"),
    (lambda: segments.thin(IMAGE[0]), ValueError, r"mask: expected at least two dimensions, .* got shape \(9,\)"),
    (lambda: segments.thickness(IMAGE, IMAGE), TypeError, "skeleton: expected dtype bool, got float32"),
    (lambda: segments.thickness(IMAGE, IMAGE[1:] > 0), ValueError,
     r"skeleton: expected the shape of mask \(8, 9\), got \(7, 9\)"),
    (lambda: segments.thickness(IMAGE, (IMAGE > 0).to("meta")), ValueError,
     "skeleton: expected the device of mask cpu, got meta"),
    (lambda: segment_map(IMAGE.expand(1, 1, 4, 8, 9)), ValueError, "segments of volumes are not defined"),
    (lambda: segment_map(IMAGE.expand(2, 3, 8, 9)), ValueError,
     r"target: expected one-channel images, .*\(2, 3, 8, 9\)"),
    (lambda: segment_map(IMAGE + 255), ValueError, r"target: expected labels 0 and 1, got 255\.0"),
    (lambda: segment_map(IMAGE, min_length=0), ValueError, "min_length: expected at least 1 pixel, got 0"),
    (lambda: segment_map(IMAGE, max_length=2.0), TypeError, r"max_length: expected an int, got 2\.0"),
    (lambda: segment_map(IMAGE, margin=-1), ValueError, "margin: expected a finite number of at least 0, got -1"),
    (lambda: segment_map(IMAGE, margin="2"), TypeError, "margin: expected a number, got '2'"),
    (lambda: segment_map(IMAGE, mask=IMAGE), TypeError, "mask: expected dtype bool, uint8, got float32"),
    (lambda: segment_map(IMAGE, mask=IMAGE[1:] > 0), ValueError,
     r"mask: expected a shape that broadcasts to \(8, 9\), got \(7, 9\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call: Callable[[], Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call()


# ---- Batches of maps ------------------------------------------------------------------------------------------------


def test_stacked_maps_are_the_map_of_the_batch() -> None:
    images = torch.stack([SHAPES[name] for name in ("comb", "empty", "ring", "cross", "blocks")])
    whole = segment_map(images)
    parts = [segment_map(images[:2]), segment_map(images[2]), segment_map(images[3:])]
    for stacked in (SegmentMap.stack(parts), SegmentMap.stack(part for part in parts)):
        for field in dataclasses.fields(SegmentMap):
            assert torch.equal(getattr(stacked, field.name), getattr(whole, field.name)), field.name
    assert whole.starts().tolist() == [0, *torch.bincount(whole.images, minlength=5).cumsum(0).tolist()]


@pytest.mark.parametrize(
    ("maps", "error", "text"),
    [
        (lambda _: [], ValueError, "maps: expected at least one segment map, got none"),
        (lambda found: [found.ids], TypeError, "maps: expected segment maps, got Tensor"),
        (lambda found: [found, segment_map(SHAPES["two_words"])], ValueError, "maps: expected images of one size"),
        (
            lambda found: [dataclasses.replace(found, ids=found.ids[:8])],
            ValueError,
            r"maps: expected thickness of the shape of its ids \(8, 70\), got \(40, 70\)",
        ),
    ],
)
def test_what_cannot_be_stacked(maps: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        SegmentMap.stack(maps(segment_map(SHAPES["comb"])))


def test_damaged_cache_files_are_made_anew(tmp_path: Path) -> None:
    transform = CachedSegmentMaps(tmp_path)
    expected = transform(SHAPES["comb"])
    path = transform.path(SHAPES["comb"])
    sound = path.read_bytes()
    middle = len(sound) // 3
    for damaged in (b"", sound[:200], sound[:middle] + bytes(200) + sound[middle + 200 :]):
        path.write_bytes(damaged)
        assert torch.equal(transform(SHAPES["comb"]).ids, expected.ids)
        assert torch.equal(SegmentMap.load(path).pixels, expected.pixels)


def test_half_precision_annotations() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(segment_map(SHAPES["comb"].to(dtype)).ids, segment_map(SHAPES["comb"]).ids)
