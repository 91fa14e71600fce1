"""Connected components: kernels and twin against SciPy, numbers included, on shapes that are hard to connect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from rarepixel import _library, components
from rarepixel.components import label
from rarepixel.reference import components as reference

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
IMAGES, VOLUMES = (8, 4), (26, 18, 6)
DIRECTIONS = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}  # in how many neighbours differ


def by_scipy(mask: Tensor, connectivity: int) -> tuple[Tensor, Tensor]:
    """SciPy's components of (N, C, *spatial), renumbered in the order in which their pixels are met."""
    structure = ndimage.generate_binary_structure(mask.dim() - 2, DIRECTIONS[connectivity])
    labels = np.zeros(mask.shape, np.int32)
    count = np.zeros(mask.shape[:2], np.int64)
    for image in np.ndindex(*mask.shape[:2]):
        found, count[image] = ndimage.label(mask[image].cpu().numpy(), structure)
        _, firsts = np.unique(found[found > 0], return_index=True)
        numbers = np.zeros(count[image] + 1, np.int32)
        numbers[1 + np.argsort(firsts)] = np.arange(1, count[image] + 1)
        labels[image] = numbers[found]
    return torch.from_numpy(labels), torch.from_numpy(count)


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other, dtype in zip(found, expected, (torch.int32, torch.int64), strict=True):
        assert one.dtype == dtype
        assert torch.equal(one.cpu(), other.cpu())


def noise(*shape: int, density: float = 0.5, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density


# ---- Shapes ---------------------------------------------------------------------------------------------------------


def drawn(height: int, width: int, draw: Callable[[Tensor], None]) -> Tensor:
    image = torch.zeros(height, width, dtype=torch.bool)
    draw(image)
    return image


def _spiral(image: Tensor) -> None:
    """One line from the outside in, every second ring: all that lies within a row meets late or never."""
    height, width = image.shape
    row, column, steps = 0, 0, itertools.cycle([(0, 1), (1, 0), (0, -1), (-1, 0)])
    lengths = [width - 1, height - 1, width - 1]
    while lengths[-1] > 0:
        lengths += [lengths[-2] - 2]
    for length, (down, right) in zip(lengths, steps, strict=False):
        for _ in range(max(length, 0)):
            image[row, column] = True
            row, column = row + down, column + right
    image[row, column] = True


def _snake(image: Tensor) -> None:
    image[::2] = True
    image[1::4, -1], image[3::4, 0] = True, True


def _snake_on_end(image: Tensor) -> None:
    _snake(image.T)


def _comb(image: Tensor) -> None:
    image[-1], image[:, ::2] = True, True


def _comb_upside_down(image: Tensor) -> None:
    image[0], image[:, ::2] = True, True


def _nested_cups(image: Tensor) -> None:
    """One in the other, open to the north: each arm is a component of its own until the last row of its cup."""
    height, width = image.shape
    for cup in range(0, min(height, width // 2), 2):
        image[: height - cup, cup], image[: height - cup, width - 1 - cup] = True, True
        image[height - 1 - cup, cup : width - cup] = True


def _stairs(image: Tensor) -> None:
    rows, columns = torch.meshgrid(*map(torch.arange, image.shape), indexing="ij")
    image[(rows + columns) % 5 == 0] = True


def _stairs_down(image: Tensor) -> None:
    _stairs(image.flip(1))
    image.copy_(image.flip(1))


def _checkerboard(image: Tensor) -> None:
    image[::2, ::2], image[1::2, 1::2] = True, True


def _grid_of_points(image: Tensor) -> None:
    image[::2, ::2] = True


def _zigzag(image: Tensor) -> None:
    """Corners alone hold it together."""
    for column in range(image.shape[1]):
        image[abs((column + 7) % 14 - 7), column] = True


def _second_row_first(image: Tensor) -> None:
    """What begins farther west begins a row farther south: numbers are not the order of columns."""
    image[1, 0], image[0, 5], image[1, 9], image[2, 9:20], image[0, 12], image[1, 14] = (True,) * 6


SHAPES = {
    "empty": drawn(40, 70, lambda _: None),
    "full": drawn(40, 70, lambda image: image.fill_(True)),
    "spiral": drawn(39, 71, _spiral),
    "snake": drawn(41, 70, _snake),
    "snake_on_end": drawn(70, 41, _snake_on_end),
    "comb": drawn(33, 131, _comb),
    "comb_upside_down": drawn(33, 131, _comb_upside_down),
    "nested_cups": drawn(50, 140, _nested_cups),
    "stairs": drawn(40, 70, _stairs),
    "stairs_down": drawn(40, 70, _stairs_down),
    "checkerboard": drawn(40, 130, _checkerboard),
    "grid_of_points": drawn(41, 129, _grid_of_points),
    "zigzag": drawn(9, 200, _zigzag),
    "second_row_first": drawn(5, 24, _second_row_first),
    "one_row": noise(1, 200),
    "one_column": noise(200, 1),
    "one_pixel": torch.ones(1, 1, dtype=torch.bool),
    "no_pixel": torch.zeros(1, 1, dtype=torch.bool),
    "two_words": drawn(5, 128, lambda image: image[1:4, 60:70].fill_(True)),
    "columns_64": drawn(6, 64, lambda image: image[:, [0, 63]].fill_(True)),
    "last_of_a_word": drawn(4, 130, lambda image: image[torch.arange(4), torch.tensor([63, 64, 63, 127])].fill_(True)),
}
by_shape = pytest.mark.parametrize("shape", SHAPES)


@by_shape
@pytest.mark.parametrize("connectivity", IMAGES)
def test_shapes(shape: str, connectivity: int, device: torch.device) -> None:
    image = SHAPES[shape]
    turned = (image, image.flip(0), image.flip(1), image.T, image.T.flip(0))
    for mask in (one[None, None].to(device) for one in turned):
        found, expected = label(mask, connectivity=connectivity), by_scipy(mask, connectivity)
        assert_same(found, expected)
        assert_same(reference.label(mask, connectivity), expected)
        assert found.labels.is_contiguous()


def test_how_many_components_shapes_have() -> None:
    """What was meant is what was drawn."""
    counted = {shape: (label(image).count.item(), label(image, connectivity=4).count.item())
               for shape, image in SHAPES.items()}  # fmt: skip
    assert counted["spiral"] == counted["snake"] == counted["snake_on_end"] == counted["comb"] == (1, 1)
    assert counted["nested_cups"] == (25, 25)
    assert counted["checkerboard"] == (1, 40 * 130 // 2)
    assert counted["zigzag"] == (1, 200)
    assert counted["grid_of_points"] == (21 * 65, 21 * 65)


def as_volume(image: Tensor, planes: int) -> Tensor:
    """Every so many rows a plane: what was one line in an image goes through the planes."""
    rows = image.shape[0] // planes * planes
    return image[:rows].unflatten(0, (planes, -1))


@by_shape
@pytest.mark.parametrize("connectivity", VOLUMES)
def test_shapes_of_volumes(shape: str, connectivity: int, device: torch.device) -> None:
    image = SHAPES[shape]
    volumes = [as_volume(image, min(planes, image.shape[0])) for planes in (2, 3, 13)]
    volumes += [image[None], image[:, None], image[:, :, None], torch.stack([image, image.flip(1), image.roll(1, 0)])]
    for mask in (volume[None, None].to(device) for volume in volumes):
        expected = by_scipy(mask, connectivity)
        assert_same(label(mask, connectivity=connectivity), expected)
        assert_same(reference.label(mask, connectivity), expected)


def all_masks(*shape: int) -> Tensor:
    """Every mask that there is of a size, (N, 1, *shape)."""
    pixels = math.prod(shape)
    return (torch.arange(2**pixels)[:, None] >> torch.arange(pixels) & 1).bool().reshape(-1, 1, *shape)


@pytest.mark.parametrize(
    ("shape", "connectivity"),
    [
        *itertools.product([(3, 3)], IMAGES),
        *itertools.product([(2, 2, 2)], VOLUMES),
    ],
    ids=str,
)
def test_all_masks_there_are(shape: tuple[int, ...], connectivity: int, device: torch.device) -> None:
    masks = all_masks(*shape).to(device)
    expected = by_scipy(masks, connectivity)
    assert_same(label(masks, connectivity=connectivity), expected)
    assert_same(reference.label(masks, connectivity), expected)


@pytest.mark.parametrize(
    ("shape", "connectivity"),
    [
        *itertools.product([(4, 4), (3, 5), (5, 3)], IMAGES),
        *itertools.product([(2, 3, 2), (3, 2, 2), (2, 2, 3), (3, 3, 1)], VOLUMES),
    ],
    ids=str,
)
def test_all_larger_masks_there_are_match_the_twin(shape: tuple[int, ...], connectivity: int) -> None:
    masks = all_masks(*shape)
    assert_same(label(masks, connectivity=connectivity), reference.label(masks, connectivity))


# ---- Noise ----------------------------------------------------------------------------------------------------------

densities = st.one_of(st.floats(0, 1), st.sampled_from([0.3, 0.41, 0.5, 0.59, 0.7]))  # where clusters grow large
seeds = st.integers(0, 2**32 - 1)
images = st.builds(
    lambda batch, height, width, density, seed: noise(*batch, height, width, density=density, seed=seed),
    st.sampled_from([(1, 1), (2, 1), (1, 3)]), st.integers(1, 40), st.integers(1, 140), densities, seeds,
)  # fmt: skip
volumes = st.builds(
    lambda depth, height, width, density, seed: noise(1, 1, depth, height, width, density=density, seed=seed),
    st.integers(1, 8), st.integers(1, 12), st.integers(1, 80),
    st.one_of(densities, st.sampled_from([0.1, 0.14, 0.2, 0.25, 0.31])), seeds,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(images, st.sampled_from(IMAGES))
def test_any_image(mask: Tensor, connectivity: int) -> None:
    assert_same(label(mask, connectivity=connectivity), by_scipy(mask, connectivity))


@settings(max_examples=200, deadline=None)
@given(volumes, st.sampled_from(VOLUMES))
def test_any_volume(mask: Tensor, connectivity: int) -> None:
    assert_same(label(mask, connectivity=connectivity), by_scipy(mask, connectivity))


@settings(max_examples=100, deadline=None)
@given(st.one_of(images, volumes), st.integers(0, 2))
def test_twin_on_any_mask(mask: Tensor, which: int) -> None:
    connectivity = (VOLUMES if mask.dim() == 5 else (*IMAGES, 8))[which]
    assert_same(reference.label(mask, connectivity), by_scipy(mask, connectivity))


@settings(max_examples=100, deadline=None)
@given(images)
def test_what_labels_promise(mask: Tensor) -> None:
    labels, count = label(mask)
    assert torch.equal(labels > 0, mask)
    for numbers, of_image in zip(labels.flatten(0, 1), count.flatten(), strict=True):
        met = list(dict.fromkeys(numbers[numbers > 0].tolist()))
        assert met == list(range(1, int(of_image) + 1))
    for axis in (2, 3):  # neighbours have one label
        one, other = labels.narrow(axis, 1, labels.shape[axis] - 1), labels.narrow(axis, 0, labels.shape[axis] - 1)
        assert ((one == other) | (one == 0) | (other == 0)).all()
    for turned in (mask.flip(2), mask.flip(3), mask.mT):
        assert torch.equal(label(turned).count, count)
    assert (label(mask, connectivity=4).count >= count).all()


@pytest.mark.parametrize("connectivity", IMAGES)
@pytest.mark.parametrize("density", [0.02, 0.41, 0.5, 0.59])
def test_large_images(connectivity: int, density: float, device: torch.device) -> None:
    """Of so many tiles that the counts of their roots are added up in several steps."""
    mask = noise(1, 1, 700, 1031, density=density).to(device)
    assert_same(label(mask, connectivity=connectivity), by_scipy(mask, connectivity))


@pytest.mark.parametrize("connectivity", VOLUMES)
@pytest.mark.parametrize("density", [0.02, 0.1, 0.31, 0.5])
def test_large_volumes(connectivity: int, density: float, device: torch.device) -> None:
    mask = noise(1, 1, 37, 65, 130, density=density).to(device)
    assert_same(label(mask, connectivity=connectivity), by_scipy(mask, connectivity))


def test_cc3d_finds_the_same() -> None:
    cc3d = pytest.importorskip("cc3d")
    for shape, choices in (((90, 130), IMAGES), ((9, 30, 70), VOLUMES)):
        for connectivity in choices:
            mask = noise(*shape, density=0.3)
            found, count = cc3d.connected_components(mask.numpy(), connectivity=connectivity, return_N=True)
            labels, ours = label(mask[None, None], connectivity=connectivity)
            assert ours.item() == count
            pairs = torch.stack([labels[0, 0].long(), torch.from_numpy(found.astype(np.int64))]).flatten(1)
            assert pairs.unique(dim=1).shape[1] == count + 1  # one of theirs for one of ours


def annotations() -> list[Path]:
    folders = [DATA / "IDRiD_quarter", DATA / "CHASEDB1"]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".tif", ".png"))
    return files[:: max(1, len(files) // 12)]


@pytest.mark.skipif(not DATA.is_dir(), reason="no real images here")
def test_real_masks() -> None:
    image_files = pytest.importorskip("PIL.Image")
    paths = annotations()
    assert len(paths) >= 8
    most = 0
    for path in paths:
        with image_files.open(path) as opened:
            mask = torch.from_numpy(np.asarray(opened) > 0)[None, None]
        for connectivity in IMAGES:
            found = label(mask, connectivity=connectivity)
            assert_same(found, by_scipy(mask, connectivity))
            most = max(most, int(found.count))
    assert most > 20


# ---- Batches, types, layouts ----------------------------------------------------------------------------------------


def test_batches_dtypes_and_layouts(device: torch.device) -> None:
    mask = noise(2, 3, 33, 70, density=0.4).to(device)
    expected = by_scipy(mask, 8)
    for dtype in (torch.bool, torch.uint8, torch.uint16, torch.int8, torch.int64, torch.float16, torch.bfloat16,
                  torch.float32, torch.float64):  # fmt: skip
        assert_same(label(mask.to(dtype)), expected)
    assert_same(label(mask.to(torch.uint8) * 255), expected)
    assert_same(label(mask.float() * -0.25), expected)
    assert_same(label(mask.to(memory_format=torch.channels_last)), expected)
    assert_same(label(mask.mT.contiguous().mT), expected)
    assert_same(label(mask.transpose(0, 1)), by_scipy(mask.transpose(0, 1), 8))
    assert_same(label(mask[..., 1::2]), by_scipy(mask[..., 1::2], 8))
    assert_same(label(mask[:, 1:, 3:]), by_scipy(mask[:, 1:, 3:], 8))
    assert_same(label(mask[:1].expand(4, -1, -1, -1)), by_scipy(mask[:1].expand(4, -1, -1, -1), 8))
    volume = noise(1, 2, 5, 9, 20, density=0.3).to(device)
    assert_same(label(volume.to(memory_format=torch.channels_last_3d)), by_scipy(volume, 26))
    assert_same(label(volume.transpose(2, 4)), by_scipy(volume.transpose(2, 4), 26))


def test_defaults_are_all_neighbours() -> None:
    mask, volume = noise(1, 1, 20, 30), noise(1, 1, 5, 9, 20, density=0.1)
    assert_same(label(mask), label(mask, connectivity=8))
    assert_same(label(volume), label(volume, connectivity=26))
    assert_same(label(volume, connectivity=np.int64(18)), by_scipy(volume, 18))  # type: ignore[arg-type]


def test_one_image_by_itself(device: torch.device) -> None:
    image = noise(20, 30).to(device)
    labels, count = label(image, connectivity=4)
    assert_same((labels[None, None], count[None, None]), by_scipy(image[None, None], 4))
    assert count.shape == ()
    assert labels.device == count.device == image.device


def test_nan_is_set_and_both_zeros_are_not() -> None:
    labels, count = label(torch.tensor([[math.nan, 0.0, -0.0, math.inf, -1e-45]]))
    assert labels.tolist() == [[1, 0, 0, 2, 2]]
    assert count.item() == 2


@pytest.mark.parametrize("shape", [(0, 1, 5, 5), (2, 0, 5, 5), (2, 3, 0, 5), (2, 3, 5, 0), (2, 3, 4, 0, 5)], ids=str)
@pytest.mark.parametrize("compute", [label, lambda mask: reference.label(mask, 8)], ids=["kernels", "twin"])
def test_nothing_to_label(shape: tuple[int, ...], compute: Any, device: torch.device) -> None:
    labels, count = compute(torch.ones(shape, dtype=torch.bool, device=device))
    assert (labels.shape, labels.dtype) == (shape, torch.int32)
    assert (count.dtype, count.tolist()) == (torch.int64, torch.zeros(shape[:2], dtype=torch.int64).tolist())


def test_threads_change_nothing() -> None:
    threads = torch.get_num_threads()
    masks = [noise(5, 2, 60, 90), noise(3, 1, 4, 30, 70, density=0.2)]
    try:
        torch.set_num_threads(1)
        expected = [label(mask) for mask in masks]
        torch.set_num_threads(2)
        for mask, one in zip(masks, expected, strict=True):
            assert_same(label(mask), one)
    finally:
        torch.set_num_threads(threads)
    for mask, one in zip(masks, expected, strict=True):
        assert_same(one, by_scipy(mask, 8 if mask.dim() == 4 else 26))


def test_the_mask_stays_as_it_was() -> None:
    mask = noise(1, 1, 20, 30)
    before = mask.clone()
    label(mask)
    assert torch.equal(mask, before)


# ---- PyTorch --------------------------------------------------------------------------------------------------------


def test_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, volume = noise(2, 1, 20, 70), noise(1, 1, 4, 9, 20, density=0.2)
    expected = label(mask), label(volume, connectivity=18)
    monkeypatch.setattr(_library, "CPU", _library.Library(False, ""))
    monkeypatch.setattr(
        reference, "label", lambda *arguments, twin=reference.label: called.append(1) or twin(*arguments)
    )
    called: list[int] = []
    assert_same(label(mask), expected[0])
    assert_same(label(volume, connectivity=18), expected[1])
    assert len(called) == 2


def test_defaults_of_dtype_and_device_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = noise(1, 1, 20, 30)
    for library in (_library.CPU, _library.Library(False, "")):
        monkeypatch.setattr(_library, "CPU", library)
        expected = label(mask)
        for dtype, device in ((torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")):
            try:
                torch.set_default_dtype(dtype)
                torch.set_default_device(device)
                found = label(mask)
            finally:
                torch.set_default_dtype(torch.float32)
                torch.set_default_device(None)
            assert_same(found, expected)


def test_labels_have_no_gradient() -> None:
    found = label(torch.ones(1, 1, 4, 5, requires_grad=True))
    assert not found.labels.requires_grad
    assert not found.count.requires_grad


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
@pytest.mark.parametrize("connectivity", [4, 18])
def test_opcheck(connectivity: int) -> None:
    mask = noise(2, 1, *((9, 20) if connectivity == 4 else (3, 9, 20)))
    torch.library.opcheck(torch.ops.rarepixel.components.default, (mask, connectivity))


def test_meta_tensors() -> None:
    for shape in ((2, 3, 5, 7), (2, 3, 4, 5, 7)):
        labels, count = label(torch.zeros(shape, device="meta"))
        assert (labels.shape, labels.dtype, labels.device.type) == (shape, torch.int32, "meta")
        assert (count.shape, count.dtype, count.device.type) == ((2, 3), torch.int64, "meta")


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
def test_compiles_without_graph_breaks() -> None:
    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def shares(scores: Tensor) -> tuple[Tensor, Tensor]:
        found = label(scores > 0.5, connectivity=4)
        return found.labels, found.count + found.labels.amax(dim=(2, 3))

    for shape in ((2, 3, 20, 30), (1, 3, 9, 70)):
        scores = torch.rand(shape)
        labels, count = by_scipy(scores > 0.5, 4)
        assert_same(shares(scores), (labels, 2 * count))


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
def test_vmap() -> None:
    masks = noise(2, 3, 1, 9, 20)
    expected = by_scipy(masks.flatten(0, 1), 8)
    for dimension in (0, 1):
        found = torch.vmap(lambda mask: tuple(label(mask)), in_dims=dimension, out_dims=dimension)(masks)
        assert_same(tuple(one.flatten(0, 1) for one in found), expected)


# ---- Errors ---------------------------------------------------------------------------------------------------------

MASK = torch.zeros(1, 1, 8, 9)
HUGE = torch.zeros(1, 1, 1, 1, dtype=torch.bool).expand(1, 1, 2**16, 2**15)

ERRORS: list[Any] = [
    (lambda: label(MASK.numpy()), TypeError, r"mask: expected a torch\.Tensor, got ndarray"),
    (lambda: label(MASK + 0j), TypeError, "mask: expected dtype bool, float32, .* got complex64"),
    (lambda: label(MASK[0, 0].to_sparse()), TypeError, r"mask: expected a dense tensor, got layout torch\.sparse_coo"),
    (lambda: label(MASK[0, 0, 0]), ValueError,
     r"mask: expected \(N, C, H, W\) or \(N, C, D, H, W\), or one image \(H, W\), got shape \(9,\)$"),
    (lambda: label(MASK[0]), ValueError,
     r"got shape \(1, 8, 9\); images \(N, H, W\) are mask\.unsqueeze\(1\), and a volume \(D, H, W\) is mask\[None"),
    (lambda: label(MASK[None, None]), ValueError, r"got shape \(1, 1, 1, 1, 8, 9\)$"),
    (lambda: label(MASK, connectivity=6), ValueError,
     r"connectivity: expected 8 or 4 for images \(N, C, H, W\), got 6"),
    (lambda: label(MASK[None], connectivity=8), ValueError,
     r"connectivity: expected 26, 18 or 6 for volumes \(N, C, D, H, W\), got 8"),
    (lambda: label(MASK, connectivity=8.0), TypeError, r"connectivity: expected an int or None, got 8\.0"),
    (lambda: label(MASK, connectivity=True), TypeError, "connectivity: expected an int or None, got True"),
    (lambda: label(HUGE), ValueError,
     r"mask: expected at most 2147483647 pixels an image, got shape \(1, 1, 65536, 32768\)"),
    (lambda: label(HUGE[0, 0]), ValueError, "mask: expected at most 2147483647 pixels an image"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


@pytest.mark.skipif(not _library.CPU.loaded, reason="no compiled kernels")
def test_the_operator_refuses_what_it_cannot_number() -> None:
    with pytest.raises(RuntimeError, match="expected at most 2147483647 pixels an image, got 2147483648"):
        torch.ops.rarepixel.components(HUGE, 8)


def test_names() -> None:
    assert components.__all__ == ["Components", "label"]
    found = label(MASK)
    assert isinstance(found, components.Components)
    assert found._fields == ("labels", "count")
