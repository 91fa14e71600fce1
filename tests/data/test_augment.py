"""Augmentations: image and annotation move together, strengths of zero change nothing, ranges are kept."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rarepixel.data._geometry import Geometry
from rarepixel.data._moves import _displacement
from rarepixel.data.augment import AUGMENTATIONS, Augmentation, Chain, OneOf, Sometimes, make
from rarepixel.data.draws import Sample

SHAPES = [(40, 52), (18, 22, 26)]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=["image", "volume"])
MOVES = ["flips", "quarter_turns", "quarter_turns:planes=all", "fliplr", "flipud", "flips_and_turns"]
BENDS = ["rotation:degrees=40", "scale:low=0.7:high=1.4", "elastic:alpha=200:sigma=6"]
CHANGES = ["noise", "clahe", "imadjust", "brightness", "contrast", "shift"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def blob(shape: tuple[int, ...]) -> Tensor:
    """A smooth hill beside the middle: 1 at its top, 0 far away."""
    axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in shape), indexing="ij")
    place = [size * share for size, share in zip(shape, (0.45, 0.6, 0.5), strict=False)]
    width = [size * share for size, share in zip(shape, (0.25, 0.15, 0.2), strict=False)]
    away = sum(((axis - at) / by).square() for axis, at, by in zip(axes, place, width, strict=False))
    assert isinstance(away, Tensor)
    return torch.exp(-away)


def drawn(shape: tuple[int, ...]) -> Sample:
    """An image that shows its own annotation: the first channel is the target, the second a hill cut at one half."""
    generator = torch.Generator().manual_seed(0)
    spots = torch.rand(1, *shape, generator=generator) < 0.05
    hill = blob(shape)[None]
    target = torch.cat([spots, hill > 0.5])
    segments = torch.arange(1, 1 + math.prod(shape), dtype=torch.int32).reshape(1, *shape) * target
    mask = torch.ones(1, *shape, dtype=torch.bool)
    return Sample(
        torch.cat([spots.float(), hill, torch.rand(1, *shape, generator=generator)]), target, mask, segments, "", ()
    )


# ---- Moves that are exact -------------------------------------------------------------------------------------------


@by_shape
@pytest.mark.parametrize("spec", MOVES)
def test_exact_moves_take_everything_along(spec: str, shape: tuple[int, ...]) -> None:
    sample, augmentation = drawn(shape), make(spec)
    seen = set()
    for seed in range(30):
        moved = augmentation(sample, rng(seed))
        assert torch.equal(moved.image[:1] == 1, moved.target[:1])
        assert torch.equal(moved.image[1:2] > 0.5, moved.target[1:])
        assert moved.segments is not None
        assert torch.equal(moved.segments != 0, moved.target)
        assert torch.equal(moved.segments.flatten(1).sort().values, sample.segments.flatten(1).sort().values)  # type: ignore[union-attr]
        assert torch.equal(moved.image.flatten(1).sort().values, sample.image.flatten(1).sort().values)
        assert bool(moved.mask.all())
        assert all(one.is_contiguous() for one in (moved.image, moved.target, moved.segments, moved.mask))
        seen.add(moved.image.numpy().tobytes() + bytes(moved.image.shape))
    dims = len(shape)
    whole = {"flips": 2**dims, "quarter_turns": 4, "fliplr": 1, "flipud": 1}
    if dims == 2:
        whole["quarter_turns:planes=all"] = 4
    assert len(seen) == whole.get(spec, len(seen))
    assert len(seen) > 7 or spec in whole


def test_what_each_move_does() -> None:
    image = torch.arange(6.0).reshape(1, 2, 3)
    sample = Sample(image, image > 3, image >= 0, None, "", ())
    assert torch.equal(make("fliplr")(sample, rng()).image, image.flip(2))
    assert torch.equal(make("flipud")(sample, rng()).image, image.flip(1))
    turned = [make("quarter_turns")(sample, rng(seed)).image for seed in range(20)]
    turns = [torch.rot90(image, k, (1, 2)) for k in range(4)]
    assert {tuple(one.flatten().tolist()) for one in turned} == {tuple(one.flatten().tolist()) for one in turns}
    only = {make("flips:axes=[0]")(sample, rng(seed)).image.flatten().tolist()[0] for seed in range(20)}
    assert only == {0, 3}


def test_the_eight_of_a_square_are_equally_likely() -> None:
    image = torch.arange(4.0).reshape(1, 2, 2)
    sample, augmentation, source = Sample(image, image > 2, image >= 0, None, "", ()), make("flips_and_turns"), rng()
    counts: dict[tuple[float, ...], int] = {}
    for _ in range(1600):
        key = tuple(augmentation(sample, source).image.flatten().tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 8
    assert min(counts.values()) > 140
    assert max(counts.values()) < 260


# ---- Moves that interpolate -----------------------------------------------------------------------------------------


@by_shape
@pytest.mark.parametrize("spec", [*BENDS, "[rotation, scale, elastic, flips, quarter_turns]"])
def test_bent_samples_keep_image_and_target_aligned(spec: str, shape: tuple[int, ...]) -> None:
    """A hill cut at one half is where the bent hill is above one half, but for a rim of less than a pixel."""
    sample = drawn(shape)
    augmentation = make(spec if not spec.startswith("[") else spec[1:-1].split(", "))
    for seed in range(3):
        moved = augmentation(sample, rng(seed))
        inside = moved.mask[0]
        hill, target = moved.image[1], moved.target[1]
        assert not torch.equal(hill, sample.image[1])
        off = (hill > 0.5) != target
        assert not bool((off & ((hill < 0.3) | (hill > 0.7)) & inside).any())
        assert int((off & inside).sum()) < 0.35 * int(target.sum())  # most of a small hill is rim
        assert moved.segments is not None
        assert torch.equal(moved.segments != 0, moved.target)
        assert set(moved.segments.unique().tolist()) <= set(sample.segments.unique().tolist())  # type: ignore[union-attr]
        assert bool((moved.image[:, ~inside] == 0).all())


@by_shape
def test_a_rotation_by_a_quarter_is_a_quarter_turn(shape: tuple[int, ...]) -> None:
    sample = drawn((*shape[:-2], 24, 24))
    found = make("rotation:degrees=[90,90]:planes=last")(sample, rng())
    turned = [torch.rot90(sample.image, k, (-2, -1)) for k in (1, 3)]
    assert any(torch.allclose(found.image, one, atol=1e-4) for one in turned)
    targets = [torch.rot90(sample.target, k, (-2, -1)) for k in (1, 3)]
    assert any(torch.equal(found.target, one) for one in targets)


@by_shape
def test_twice_as_large(shape: tuple[int, ...]) -> None:
    sample = drawn(shape)
    found = make("scale:low=2:high=2")(sample, rng())
    assert bool(found.mask.all())
    assert float(found.target[1].sum()) == pytest.approx(float(sample.target[1].sum()) * 2 ** len(shape), rel=0.1)
    small = make("scale:low=0.5:high=0.5")(sample, rng())
    assert float(small.mask.sum()) == pytest.approx(math.prod(shape) / 2 ** len(shape), rel=0.01)


@pytest.mark.parametrize(
    "spec",
    [
        "identity",
        "rotation:degrees=0",
        "scale:low=1:high=1",
        "elastic:alpha=0",
        "brightness:low=1:high=1",
        "contrast:low=1:high=1",
        "shift:by=0",
        "noise:variance=0",
        "flips:probability=0",
        "elastic:probability=0",
    ],
)
@by_shape
def test_no_strength_is_no_change(spec: str, shape: tuple[int, ...]) -> None:
    sample = drawn(shape)
    found = make(spec)(sample, rng())
    torch.testing.assert_close(found.image, sample.image, rtol=0, atol=1e-6)
    for one, other in zip(found[1:4], sample[1:4], strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]


def test_ranges_of_moves() -> None:
    source = rng()
    rotation, scale = make("rotation:degrees=15"), make("scale")
    angles = [math.degrees(math.atan2(*rotation.plan(source, 2)[0][:, 0][::-1])) for _ in range(300)]  # type: ignore[index]
    assert -15 <= min(angles) < -13
    assert 13 < max(angles) <= 15
    factors = [1 / scale.plan(source, 3)[0][0, 0] for _ in range(300)]  # type: ignore[index]
    assert 0.85 <= min(factors) < 0.87
    assert 1.23 < max(factors) <= 1.25


@pytest.mark.parametrize(("shape", "sigma"), [((150, 150), 9.0), ((150, 150), 2.0), ((50, 50, 50), 4.0)])
def test_how_far_elastic_moves(shape: tuple[int, ...], sigma: float) -> None:
    """Size and smoothness are those of the formula, at the border as in the middle."""
    fields = torch.stack([_displacement(shape, 100.0, sigma, rng(seed)) for seed in range(6)])
    dims = len(shape)
    expected = 100 / math.sqrt(3) / (2 * math.sqrt(math.pi) * sigma) ** (dims / 2)
    assert fields.shape == (6, dims, *shape)
    assert fields.std().item() == pytest.approx(expected, rel=0.12)
    assert fields[..., 0].std().item() == pytest.approx(expected, rel=0.25)
    assert fields.diff(dim=-1).std().item() == pytest.approx(expected / (math.sqrt(2) * sigma), rel=0.15)


def test_moves_are_joined_in_their_order() -> None:
    """First mirrored, then turned is another image than the other way round."""
    image = torch.arange(6.0).reshape(1, 2, 3)
    sample = Sample(image, image > 3, image >= 0, None, "", ())
    turn = make("quarter_turns")
    seed = next(seed for seed in range(9) if turn(sample, rng(seed)).image.shape == (1, 3, 2))
    one, other = (Chain(pair)(sample, rng(seed)).image for pair in (["fliplr", turn], [turn, "fliplr"]))
    assert torch.equal(one, turn(make("fliplr")(sample, rng()), rng(seed)).image)
    assert torch.equal(other, make("fliplr")(turn(sample, rng(seed)), rng()).image)
    assert not torch.equal(one, other)


def test_exact_and_bent_readings_agree() -> None:
    """A field that moves nothing makes the same way through grid_sample that turns go without."""
    sample = drawn((20, 30))
    augmentation = make(["flips", "quarter_turns"])

    class Still(Augmentation):
        def plan(self, generator: np.random.Generator, dims: int) -> list[Any]:
            del generator
            return [lambda shape: torch.zeros(dims, *shape)]

    for seed, place in itertools.product(range(8), (0, 1)):
        parts = [augmentation, augmentation]
        parts[place] = Still()
        exact, bent = augmentation(sample, rng(seed)), Chain(parts)(sample, rng(seed))
        torch.testing.assert_close(bent.image, exact.image, rtol=0, atol=1e-5)
        for one, other in zip(bent[1:4], exact[1:4], strict=True):
            assert torch.equal(one, other)  # type: ignore[arg-type]


def test_only_turns_are_exact() -> None:
    half = make("rotation:degrees=[180,180]").plan(rng(), 2)
    assert not Geometry(half, 2).exact  # the sine of pi is not 0
    assert Geometry([np.array([[0.0, -1.0], [1.0, 0.0]])], 2).exact
    assert not Geometry([np.array([[1.0, 1.0], [0.0, 1.0]])], 2).exact
    assert not Geometry([np.array([[1.0, 0.0], [1.0, 0.0]])], 2).exact
    assert Geometry([], 2).exact


# ---- Changes --------------------------------------------------------------------------------------------------------


def framed(shape: tuple[int, ...] = (40, 52), channels: int = 3) -> Sample:
    """Dull intensities within a mask, absurd ones around it."""
    image = 0.3 + 0.2 * torch.rand(channels, *shape, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, *shape, dtype=torch.bool)
    mask[(slice(None), *(slice(5, -5) for _ in shape))] = True
    return Sample(torch.where(mask, image, 9.0), mask & (image[:1] > 0.4), mask, None, "", ())


@pytest.mark.parametrize("spec", CHANGES)
@pytest.mark.parametrize("channels", [1, 3])
@by_shape
def test_changes_stay_within_the_mask(spec: str, channels: int, shape: tuple[int, ...]) -> None:
    sample = framed(shape, channels)
    found = make(spec)(sample, rng(1))
    inside = sample.mask.expand_as(sample.image)
    assert found.image.dtype == torch.float32
    assert bool((found.image[~inside] == 9).all())
    assert not torch.equal(found.image[inside], sample.image[inside])
    assert torch.equal(found.target, sample.target)
    assert torch.equal(found.mask, sample.mask)
    other = sample._replace(image=torch.where(sample.mask, sample.image, -2.0))
    assert torch.equal(make(spec)(other, rng(1)).image[inside], found.image[inside])
    assert bool((sample.image[~inside] == 9).all())


def test_noise_has_its_variance() -> None:
    image = torch.full((1, 200, 200), 0.5)
    found = make("noise")(Sample(image, image > 0, image > 0, None, "", ()), rng()).image
    assert found.var().item() == pytest.approx(0.001, rel=0.03)
    assert found.mean().item() == pytest.approx(0.5, abs=1e-3)
    bright = torch.ones(1, 50, 50)
    assert make("noise")(Sample(bright, bright > 0, bright > 0, None, "", ()), rng()).image.max().item() == 1
    volume = torch.full((1, 20, 20, 20), -700.0)
    found = make("noise:variance=25:clip=false")(Sample(volume, volume > 0, volume < 0, None, "", ()), rng()).image
    assert found.std().item() == pytest.approx(5, rel=0.05)


def test_imadjust_stretches_what_lies_between_the_quantiles() -> None:
    image = torch.linspace(0.2, 0.6, 1001).reshape(1, 7, 143)
    found = make("imadjust")(Sample(image, image > 0, image > 0, None, "", ()), rng()).image
    low, high = 0.2 + 0.4 * 0.01, 0.2 + 0.4 * 0.99
    torch.testing.assert_close(found, ((image - low) / (high - low)).clamp(0, 1), rtol=0, atol=1e-5)


def test_clahe_is_scikit_images() -> None:
    from skimage.exposure import equalize_adapthist

    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0)) * 0.5
    found = make("clahe:clip_limit=0.02")(Sample(image, image > 0, image[:1] >= 0, None, "", ()), rng()).image
    expected = equalize_adapthist(image.permute(1, 2, 0).numpy(), clip_limit=0.02).transpose(2, 0, 1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [("brightness", 0.5, 2.0), ("contrast", 0.8, 1.25), ("shift", -0.2, 0.2), ("shift:[1,3]", 1, 3)],
)
def test_ranges_of_changes(spec: str, low: float, high: float) -> None:
    image = torch.tensor([[[1.0, 3.0]], [[-2.0, 2.0]]])
    sample, augmentation, source = Sample(image, image > 0, image[:1] > 0, None, "", ()), make(spec), rng()
    values = []
    for _ in range(300):
        found = augmentation(sample, source).image
        if spec == "brightness":
            torch.testing.assert_close(found[1], -2 * found[0, :, :1] * torch.tensor([1, -1]))
            values.append(found[0, 0, 0].item())
        elif spec == "contrast":
            torch.testing.assert_close(found.mean(dim=2), image.mean(dim=2), rtol=0, atol=1e-6)
            values.append((found[0, 0, 1] - 2).item())
        else:
            values.append((found[0, 0, 0] - 1).item())
    width = high - low
    assert low - 1e-6 <= min(values) < low + 0.03 * width
    assert high - 0.03 * width < max(values) <= high + 1e-6


@pytest.mark.parametrize("spec", ["noise", "clahe"])
def test_units_are_those_of_photos(spec: str) -> None:
    sample = framed()
    with pytest.raises(ValueError, match=f"^{spec}: expected intensities from 0 to 1, got 0 to "):
        make(spec)(sample._replace(image=sample.image * 100), rng())


@pytest.mark.parametrize("spec", ["clahe", "imadjust"])
def test_images_without_contrast(spec: str) -> None:
    image = torch.full((3, 16, 16), 0.4)
    everywhere = torch.ones(1, 16, 16, dtype=torch.bool)
    for mask in (everywhere, ~everywhere):
        assert torch.equal(make(spec)(Sample(image, mask, mask, None, "", ()), rng()).image, image)


def test_transforms_of_monai() -> None:
    sample = framed()
    spec = {"monai.transforms.RandAdjustContrast": {"prob": 1.0, "gamma": [0.5, 2]}}
    found = make(spec)(sample, rng(3)).image
    assert type(found) is Tensor
    assert not torch.equal(found, sample.image)
    assert torch.equal(found, make(spec)(sample, rng(3)).image)
    assert not torch.equal(found, make(spec)(sample, rng(4)).image)
    with pytest.raises(TypeError, match=r"^transform: expected one of MONAI's of intensities.*got RandRotate90$"):
        make("monai.transforms.RandRotate90")


# ---- Combinations and names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"one_of"}))
@by_shape
def test_each_is_a_function_of_its_generator(name: str, shape: tuple[int, ...]) -> None:
    sample = drawn(shape)
    augmentation = pickle.loads(pickle.dumps(make(name)))
    for seed in (0, 5):
        one, other = (augmentation(sample, rng(seed)) for _ in range(2))
        for first, second in zip(one[:4], other[:4], strict=True):
            assert torch.equal(first, second)  # type: ignore[arg-type]


def test_one_of_six_is_one_at_a_time() -> None:
    sample, augmentation, source = drawn((24, 30)), make("one_of_six"), rng()
    kinds = {"same": 0, "lr": 0, "ud": 0, "other": 0}
    for _ in range(300):
        image = augmentation(sample, source).image
        flipped = {"same": sample.image, "lr": sample.image.flip(2), "ud": sample.image.flip(1)}
        kinds[next((name for name, one in flipped.items() if torch.equal(image, one)), "other")] += 1
    assert all(30 < kinds[name] < 75 for name in ("same", "lr", "ud"))
    assert 120 < kinds["other"] < 180


def test_unified_focal_draws_each_of_15_percent() -> None:
    augmentation = make("unified_focal")
    assert isinstance(augmentation, Chain)
    source = rng()
    for part in augmentation.parts:
        assert 90 < sum(bool(part.plan(source, 3)) for _ in range(800)) < 155
    assert not augmentation.looks_at_raw


def test_which_look_at_raw_images() -> None:
    assert {name for name in set(AUGMENTATIONS) - {"one_of"} if make(name).looks_at_raw} == {
        "noise", "clahe", "imadjust", "one_of_six",
    }  # fmt: skip
    assert make({"one_of": ["flips", "noise:probability=0.1"]}).looks_at_raw
    assert not OneOf(["flips", "shift"]).looks_at_raw


def test_specs() -> None:
    probable = make("rotation:degrees=5:probability=0.25")
    assert isinstance(probable, Sometimes)
    assert probable.probability == 0.25
    several = make("one_of:[fliplr,flipud]")
    assert isinstance(several, OneOf)
    assert len(several.parts) == 2
    assert make(several) is several


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("rotatoin", ValueError, "augment: expected one of .*did you mean 'rotation'?"),
        ("rotation:angle=3", ValueError, "augment rotation: expected one of degrees, planes, got 'angle'"),
        ("rotation:degrees=[3,1]", ValueError, r"augment rotation: degrees: expected a pair in order, got \[3, 1\]"),
        (
            "rotation:degrees=-3",
            ValueError,
            "augment rotation: degrees: expected a finite number of at least 0, got -3",
        ),
        ("scale:low=0", ValueError, "augment scale: low: expected a finite number above 0, got 0"),
        ("elastic:sigma=0", ValueError, "augment elastic: sigma: expected a finite number above 0, got 0"),
        ("elastic:sigma=[1,2,3]", ValueError, "augment elastic: sigma: expected a number or a pair of numbers, got"),
        ("flips:probability=2", ValueError, "probability: expected a finite number from 0 to 1, got 2"),
        ("noise:clip=3", TypeError, "augment noise: clip: expected True or False, got 3"),
        ("one_of:[]", ValueError, "augment one_of: augmentations: expected at least one, got none"),
        (
            "collections.Counter",
            TypeError,
            r"augment: expected collections\.Counter to make an Augmentation, got Counter",
        ),
    ],
)
def test_specs_that_are_none(spec: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        make(spec)


def test_axes_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"^axes: expected spatial axes from -2 to 1, got 2$"):
        make("flips:axes=[2]")(drawn((8, 8)), rng())
