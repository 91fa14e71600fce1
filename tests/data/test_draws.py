"""Draws: what a patch holds, how often what is rare is in it, and that nothing but seed, epoch and number counts."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rarepixel.data.draws import Draws, Sample, collate
from rarepixel.data.images import Annotated
from rarepixel.data.normalise import make
from rarepixel.data.order import BatchStream

AUGMENT = ["flips_and_turns", "rotation:probability=0.5", "shift"]


def scene(name: str = "a", shape: tuple[int, ...] = (60, 80), channels: int = 2) -> Annotated:
    """An image whose first channel numbers its pixels; its first class has a lesion of 1 and one of 400 pixels."""
    number = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    rest = torch.rand(channels - 1, *shape, generator=torch.Generator().manual_seed(len(name)))
    target = torch.zeros(2, *shape, dtype=torch.bool)
    target[(0, *(slice(5, 6),) * len(shape))] = True
    target[(0, *(slice(0, 1),) * (len(shape) - 2), slice(30, 50), slice(40, 60))] = True
    target[(1, *(slice(20, 22),) * len(shape))] = True
    return Annotated(name, torch.cat([number, rest]), target, torch.ones(1, *shape, dtype=torch.bool))


def draws(images: Any = None, **options: Any) -> Draws:
    return Draws(
        images or [scene()], **{"patch": 16, "per_image": 1000, "normalise": make("none"), "seed": 3} | options
    )


def assert_same(one: Sample, other: Sample) -> None:
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first, second) if isinstance(first, Tensor) else first == second


def ids(target: Tensor, mask: Tensor) -> Tensor:
    """Every positive pixel is a segment of its own."""
    numbers = torch.arange(1, 1 + target.numel(), dtype=torch.int32).reshape(target.shape)
    return numbers * (target & mask)


# ---- What a patch holds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "patch"), [((60, 80), (16, 24)), ((24, 60, 64), (8, 20, 12))])
def test_a_patch_is_a_part_of_its_image(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    one = scene(shape=shape)
    drawn = draws([one], patch=patch, segments=ids)
    for index in range(40):
        sample = drawn[0, index]
        window = (slice(None), *(slice(at, at + size) for at, size in zip(sample.corner, patch, strict=True)))
        assert sample.name == "a"
        assert sample.image.shape == (2, *patch)
        assert torch.equal(sample.image, one.image[window])
        assert torch.equal(sample.target, one.target[window])
        assert torch.equal(sample.mask, one.mask[window])
        assert sample.segments is not None
        assert torch.equal(sample.segments, ids(one.target, one.mask)[window])


def test_a_turned_patch_is_cut_the_other_way_round() -> None:
    one = scene()
    drawn = draws([one], patch=(16, 24), augment=["quarter_turns"])
    shapes = Counter()  # type: ignore[var-annotated]
    for index in range(40):
        sample = drawn[0, index]
        assert sample.image.shape == (2, 16, 24)
        top, left = sample.corner
        cuts = {
            k: one.image[:, top : top + (24 if k % 2 else 16), left : left + (16 if k % 2 else 24)] for k in range(4)
        }
        found = [k for k, cut in cuts.items() if torch.equal(torch.rot90(cut, k, (1, 2)), sample.image)]
        assert len(found) == 1
        shapes[found[0]] += 1
    assert len(shapes) == 4


@pytest.mark.parametrize("augment", [[], ["flips"], ["rotation:degrees=30"]])
def test_a_patch_larger_than_the_image_holds_all_of_it(augment: list[str]) -> None:
    one = scene(shape=(30, 60))
    drawn = draws([one], patch=(90, 40), augment=augment, normalise=make("none"))
    corners = set()
    for index in range(30):
        sample = drawn[0, index]
        assert sample.image.shape == (2, 90, 40)
        outside = ~sample.mask
        assert bool((sample.image[:, outside[0]] == 0).all())
        assert not bool((sample.target & outside).any())
        corners.add(sample.corner[0])
        if augment != ["rotation:degrees=30"]:
            assert int(sample.mask.sum()) == 30 * 40
            assert -60 <= sample.corner[0] <= 0
            assert 0 <= sample.corner[1] <= 20
    assert len(corners) > 10


def test_outside_is_black_where_black_is_not_0() -> None:
    one = scene(shape=(10, 12), channels=3)
    one = one._replace(image=torch.rand(3, 10, 12))
    black = torch.tensor([16.3090, 56.4373, 116.5132]).neg().reshape(3, 1)
    for augment in ([], ["noise"], ["rotation"]):
        sample = draws([one], patch=30, augment=augment, normalise=make("caffe"))[0, 0]
        outside = ~sample.mask[0]
        assert int(outside.sum()) > 700
        torch.testing.assert_close(sample.image[:, outside], black.expand(3, int(outside.sum())))


def test_what_is_kept_is_not_what_is_given() -> None:
    """Who changes a sample in place does not change the next one."""
    for patch in (16, None):
        drawn = draws(patch=patch, segments=ids)
        before = pickle.loads(pickle.dumps(drawn[0, 1]))
        assert bool(before.mask.all())
        for one in drawn[0, 1][:4]:
            one.zero_()  # type: ignore[union-attr]
        assert_same(drawn[0, 1], before)


# ---- Whole images ---------------------------------------------------------------------------------------------------


def test_whole_images() -> None:
    one = scene()
    sample = draws([one], patch=None, normalise=make("zscore"))[0, 0]
    assert torch.equal(sample.image, make("zscore")(one.image, one.mask))
    assert torch.equal(sample.target, one.target)
    assert sample.corner == (0, 0)
    shapes = {tuple(draws([one], patch=None, augment=["quarter_turns"])[0, index].mask.shape) for index in range(20)}
    assert shapes == {(1, 60, 80), (1, 80, 60)}
    bent = draws([one], patch=None, augment=["rotation", "quarter_turns"])
    assert {tuple(bent[0, index].mask.shape) for index in range(20)} == {(1, 60, 80), (1, 80, 60)}


# ---- Where patches are ----------------------------------------------------------------------------------------------


def shares(**options: Any) -> dict[str, float]:
    """In how many of 1000 patches each lesion is; patches of one pixel, which are what is drawn."""
    drawn = draws(patch=1, **options)
    found = Counter()  # type: ignore[var-annotated]
    for index in range(1000):
        sample = drawn[0, index]
        place = sample.corner
        spot = "spot" if place == (5, 5) else "field"
        found["other" if sample.target[1].any() else spot if sample.target[0].any() else "none"] += 1
    return {name: count / 1000 for name, count in found.items()}


def test_lesions_are_equally_likely_whatever_their_size() -> None:
    found = shares(positive=1)
    assert found == pytest.approx({"spot": 0.25, "field": 0.25, "other": 0.5}, abs=0.05)
    found = shares(positive=1, centre="pixel")
    assert found.get("spot", 0) < 0.02
    assert found["field"] == pytest.approx(0.5, abs=0.05)


def test_how_often_something_positive_is_drawn() -> None:
    """405 of 4800 pixels are positive; the rest of the draws is uniform."""
    assert shares(positive=0)["none"] == pytest.approx(1 - 405 / 4800, abs=0.03)
    assert shares(positive=0.6)["none"] == pytest.approx(0.4 * (1 - 405 / 4800), abs=0.05)


def test_lesions_of_ones_own() -> None:
    """Everything positive is one lesion."""
    found = shares(positive=1, components=lambda target: target.int())
    assert found.get("spot", 0) < 0.02


def test_only_positives_within_the_mask_are_looked_for() -> None:
    one = scene()
    one.mask[:, :10] = False
    assert "spot" not in shares(images=[one], positive=1)
    one.mask[:] = False
    assert shares(images=[one], positive=1)["none"] > 0.8


@pytest.mark.parametrize(
    "augment", [[], ["flips_and_turns"], ["rotation:degrees=180", "scale:low=0.9:high=1.2"], ["elastic"]]
)
def test_the_centred_pixel_is_in_the_patch_and_anywhere_in_it(augment: list[str]) -> None:
    target = torch.zeros(1, 70, 90, dtype=torch.bool)
    target[0, 33, 44] = True
    one = scene(shape=(70, 90))._replace(target=target)
    drawn = draws([one], positive=1, augment=augment)
    places = []
    for index in range(150):
        found = drawn[0, index].target[0].nonzero()
        assert len(found) >= 1
        places.append(found[0])
    spread = torch.stack(places).double()
    assert spread.amin(dim=0).tolist() <= [1, 1]
    assert spread.amax(dim=0).min().item() >= 14
    assert spread.mean(dim=0).tolist() == pytest.approx([7.5, 7.5], abs=1.3)


@pytest.mark.parametrize("augment", [[], ["rotation:degrees=45", "elastic:alpha=100:sigma=4"]])
def test_what_lies_at_the_rim_is_centred_too(augment: list[str]) -> None:
    target = torch.zeros(1, 70, 90, dtype=torch.bool)
    target[0, 0, 89] = True
    one = scene(shape=(70, 90))._replace(target=target)
    drawn = draws([one], positive=1, augment=augment)
    samples = [drawn[0, index] for index in range(60)]
    assert sum(bool(sample.target.any()) for sample in samples) == 60
    if not augment:
        assert all(bool(sample.mask.all()) for sample in samples)


def test_uniform_patches_are_anywhere() -> None:
    drawn = draws(positive=0)
    corners = np.array([drawn[0, index].corner for index in range(1000)])
    assert corners.min(axis=0).tolist() == [0, 0]
    assert corners.max(axis=0).tolist() == [44, 64]
    assert corners.mean(axis=0) == pytest.approx([22, 32], rel=0.08)


# ---- Moves with surroundings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "augment", [["rotation:degrees=[30,60]"], ["elastic:alpha=200:sigma=5"], ["scale:low=0.7:high=0.7"]]
)
def test_no_border_shows_where_the_image_goes_on(augment: list[str]) -> None:
    """What is bent into a patch is what is there in the image: a plane stays a plane, and the mask full."""
    rows = torch.arange(200.0)[:, None].expand(200, 200)
    image = torch.stack([rows, rows.T])
    one = Annotated("plane", image, image[:1] % 7 == 0, torch.ones(1, 200, 200, dtype=torch.bool))
    drawn = draws([one], patch=24, positive=0, augment=augment)
    inner = 0
    for index in range(60):
        sample = drawn[0, index]
        if all(30 <= corner <= 140 for corner in sample.corner):
            inner += 1
            assert bool(sample.mask.all())
            # The image numbers its rows and columns: so each pixel tells where it came from.
            nearest = (sample.image[0] + 0.5).floor()
            away = (sample.image[0] + 0.5 - nearest).minimum(nearest - sample.image[0] + 0.5)
            sure = away > 1e-3
            assert torch.equal((nearest % 7 == 0)[sure], sample.target[0][sure])
            assert float(sample.image.diff(dim=1).abs().max()) < 4
    assert inner > 10


@pytest.mark.parametrize("spec", ["zscore", "minmax", "imagenet", "local:radius=4", "none"])
def test_patches_see_what_the_whole_image_would_give(spec: str) -> None:
    one = scene(channels=3)
    one = one._replace(image=torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0)))
    one.mask[:, :, :7] = False
    normalise = make(spec).fit([one])
    whole = normalise(one.image, one.mask)
    for augment in ([], ["imadjust:probability=0"]):  # kept normalised, and as it was read
        sample = draws([one], augment=augment, normalise=normalise)[0, 4]
        window = (slice(None), *(slice(at, at + 16) for at in sample.corner))
        torch.testing.assert_close(sample.image, whole[window], rtol=0, atol=1e-6)
    both = [
        draws([one], augment=["rotation", extra], normalise=normalise) for extra in ("identity", "noise:variance=0")
    ]
    for index in range(5):
        read, raw = (drawn[0, index] for drawn in both)
        if spec != "local:radius=4":
            assert torch.equal(read.target, raw.target)
        inside = read.mask & raw.mask
        rim = torch.nn.functional.max_pool2d((~inside).float()[None], 3, 1, 1)[0] > 0
        torch.testing.assert_close(read.image * ~rim, raw.image * ~rim, rtol=0, atol=1e-4)


@pytest.mark.parametrize("positive", [0, 1])
def test_patches_that_are_hardly_bent_are_those_that_are_not(positive: float) -> None:
    plain, bent = (draws(positive=positive, augment=one) for one in ([], ["elastic:alpha=0.001"]))
    for index in range(20):
        one, other = plain[0, index], bent[0, index]
        assert one.corner == other.corner
        torch.testing.assert_close(other.image, one.image, rtol=0, atol=0.05)  # a row is 80 apart from the next
        assert torch.equal(other.target, one.target)


def test_pixels_outside_the_mask_are_0_also_where_it_is_bent() -> None:
    one = scene(channels=3)
    one.mask[:, :, 40:] = False
    drawn = draws([one], augment=["rotation:degrees=[20,40]"], normalise=make("zscore"), patch=48)
    for index in range(10):
        sample = drawn[0, index]
        assert bool(sample.mask.any())
        assert bool((sample.image[:, ~sample.mask[0]] == 0).all())


# ---- Nothing but seed, epoch and number -----------------------------------------------------------------------------


def test_a_sample_is_a_function_of_its_numbers() -> None:
    images = [scene("a"), scene("bb", (50, 70)), scene("ccc", (33, 90))]
    options = {"per_image": 4, "augment": AUGMENT, "segments": ids}
    drawn = draws(images, **options)
    assert len(drawn) == 12
    keys = [(epoch, index) for epoch in (0, 1) for index in range(12)]
    samples = {key: drawn[key] for key in keys}
    assert [samples[0, index].name for index in range(12)] == ["a"] * 4 + ["bb"] * 4 + ["ccc"] * 4
    again = draws(images, **options, memory=0)
    copied = pickle.loads(pickle.dumps(draws(images, **options)))
    for key in reversed(keys):
        assert_same(again[key], samples[key])
        assert_same(copied[key], samples[key])
    assert len({sample.image.numpy().tobytes() for sample in samples.values()}) == 24
    other = draws(images, **options | {"seed": 4})
    assert not torch.equal(other[0, 0].image, samples[0, 0].image)


def test_places_do_not_depend_on_changes() -> None:
    plain, varied = draws(), draws(augment=["shift", "brightness", "contrast"])
    assert [plain[0, index].corner for index in range(20)] == [varied[0, index].corner for index in range(20)]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers: int) -> None:
    images = [scene("a"), scene("bb", (50, 70))]
    drawn = draws(images, per_image=3, augment=AUGMENT)
    stream = BatchStream(len(drawn), 4, seed=9, steps=4, start=1)
    loader: Any = DataLoader(drawn, batch_sampler=stream, num_workers=workers, collate_fn=collate)
    expected = [collate([draws(images, per_image=3, augment=AUGMENT)[key] for key in keys]) for keys in stream]
    for found, batch in zip(loader, expected, strict=True):
        assert_same(found, batch)


class Counting:
    """A list that counts what is read."""

    def __init__(self, images: list[Annotated]) -> None:
        self.images = images
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Annotated:
        self.read.append(index)
        return self.images[index]


def test_what_was_not_asked_for_longest_goes_first() -> None:
    images = Counting([scene(name) for name in "abc"])
    size = draws(images.images[:1])._whole(0).bytes
    drawn = draws(images, per_image=1, memory=2 * size)
    empty = len(pickle.dumps(drawn))
    for index in (0, 1, 0, 2, 0, 1, 2):
        drawn[0, index]
    assert images.read == [0, 1, 2, 1, 2]
    assert drawn._bytes <= 2 * size
    assert len(pickle.dumps(drawn)) < empty + 1000
    everything = Counting(images.images)
    drawn = draws(everything, per_image=1)
    for index in (0, 1, 2, 0, 1, 2):
        drawn[0, index]
    assert everything.read == [0, 1, 2]


# ---- Batches --------------------------------------------------------------------------------------------------------


def test_collate_pads_whole_images_outside_of_the_mask() -> None:
    images = [scene("a"), scene("bb", (50, 90))]
    drawn = draws(images, patch=None, per_image=1, segments=ids)
    batch = collate([drawn[0, 0], drawn[0, 1]])
    assert batch.image.shape == (2, 2, 60, 90)
    assert batch.target.dtype == batch.mask.dtype == torch.bool
    assert batch.names == ("a", "bb")
    assert batch.corners == ((0, 0), (0, 0))
    assert batch.segments is not None
    assert batch.segments.dtype == torch.int32
    for place, one in enumerate(images):
        height, width = one.mask.shape[1:]
        assert torch.equal(batch.image[place, :, :height, :width], one.image)
        assert torch.equal(batch.target[place, :, :height, :width], one.target)
        assert int(batch.mask[place].sum()) == height * width
        assert int(batch.target[place].sum()) == int(one.target.sum())
    assert collate([draws()[0, 0]]).segments is None


# ---- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"patch": 0}, ValueError, "patch: expected a finite number of at least 1, got 0"),
        ({"patch": 1.5}, TypeError, r"patch: expected an int, got 1\.5"),
        ({"per_image": 0}, ValueError, "per_image: expected a finite number of at least 1, got 0"),
        ({"positive": 1.1}, ValueError, r"positive: expected a finite number from 0 to 1, got 1\.1"),
        ({"centre": "center"}, ValueError, "centre: expected one of 'lesion', 'pixel', got 'center'"),
        ({"normalise": "zscore"}, TypeError, "normalise: expected a Normalise, as make.. gives it, got 'zscore'"),
        ({"seed": -1}, ValueError, r"seed: expected an int from 0 to 2\^64 - 1, got -1"),
        ({"memory": -1}, ValueError, "memory: expected a finite number of at least 0, got -1"),
        ({"augment": "flips"}, TypeError, "augment: expected a list of augmentations, got 'flips'"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        draws(**options)


@pytest.mark.parametrize(
    ("one", "options", "text"),
    [
        (scene()._replace(image=torch.zeros(2, 60, 80).double()), {}, "images: expected float32 of shape"),
        (
            scene()._replace(mask=torch.ones(1, 60, 81) > 0),
            {},
            r"images: expected a mask, bool, of the image's size \(60",
        ),
        (scene()._replace(target=torch.ones(1, 60, 80)), {}, "images: expected a target, bool, .*got torch.float32"),
        (scene(), {"patch": (4, 4, 4)}, r"patch: expected 2 sizes for an image of \(60, 80\), got \(4, 4, 4\)"),
        (scene(), {"segments": lambda target, _: target.long()}, "segments: expected int32 of shape .*got torch.int64"),
        (scene(), {"components": lambda target: target[0]}, "components: expected shape .*got"),
    ],
)
def test_images_that_do_not_fit(one: Annotated, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        draws([one], **options)[0, 0]


def test_keys_that_are_none() -> None:
    with pytest.raises(TypeError, match=r"^key: expected a pair \(epoch, index\)"):
        draws()[3]  # type: ignore[index]
    with pytest.raises(IndexError, match=r"^index: expected 0 to 999, got 1000$"):
        draws()[0, 1000]


def test_samples_that_do_not_stack() -> None:
    with pytest.raises(ValueError, match=r"^samples: expected at least one, got none$"):
        collate([])
    one, other = draws()[0, 0], draws([scene(channels=3)], segments=ids)[0, 0]
    with pytest.raises(ValueError, match=r"^image: expected as many channels and axes of all samples, got \(2, 16"):
        collate([one, other])
    with pytest.raises(ValueError, match=r"^segments: expected as many channels and axes of all samples, got None, "):
        collate([one, other._replace(image=one.image)])
