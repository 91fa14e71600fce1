"""Normalisations against their formulas, and what a folder keeps of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from rarepixel.data.images import Annotated
from rarepixel.data.normalise import NORMALISATIONS, Levels, Normalise, from_state, make

WITH_OPTIONS = [
    "none",
    "zscore",
    "minmax",
    "imagenet",
    "caffe:mean=[1,2,3]",
    "local:radius=3",
    "window:low=0.2:high=0.6",
]
by_kind = pytest.mark.parametrize("spec", WITH_OPTIONS)


def annotated(seed: int = 0, shape: tuple[int, ...] = (24, 31)) -> Annotated:
    """A round field of view with a bright frame around it, which no number may come from."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij")
    mask = sum(axis.square() for axis in axes) < 0.9  # type: ignore[union-attr]
    assert isinstance(mask, Tensor)
    image = torch.rand(3, *shape, generator=generator) * torch.tensor([0.2, 0.5, 0.9]).reshape(-1, *[1] * len(shape))
    target = torch.rand(1, *shape, generator=generator) < 0.1
    return Annotated(f"image {seed}", torch.where(mask, image, 7.0), target, mask[None])


IMAGES = [annotated(0), annotated(1)]


def made(spec: str) -> Normalise:
    return make(spec).fit(IMAGES)


def test_the_list_is_complete() -> None:
    assert {spec.partition(":")[0] for spec in WITH_OPTIONS} == set(NORMALISATIONS)


# ---- Formulas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 31), (9, 10, 11)])
def test_zscore(shape: tuple[int, ...]) -> None:
    one = annotated(0, shape)
    found = make("zscore")(one.image, one.mask)
    for channel, original in zip(found, one.image, strict=True):
        pixels = channel[one.mask[0]].double()
        assert pixels.mean().item() == pytest.approx(0, abs=1e-6)
        assert pixels.std(correction=0).item() == pytest.approx(1, rel=1e-6)
        assert torch.equal(pixels.argsort(), original[one.mask[0]].argsort())


def test_minmax() -> None:
    one = annotated()
    found = make("minmax")(one.image, one.mask)
    pixels = one.image[:, one.mask[0]]
    expected = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    torch.testing.assert_close(found[:, one.mask[0]], expected)
    assert (found.min().item(), found.max().item()) == (0, 1)


def test_imagenet() -> None:
    image = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1) + torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    found = make("imagenet")(image, torch.zeros(1, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(found, torch.ones(3, 1, 1))


def test_caffe() -> None:
    image = torch.tensor([0.2, 0.4, 1.0]).reshape(3, 1, 1)
    found = make("caffe")(image, torch.zeros(1, 1, 1, dtype=torch.bool))
    assert found.flatten().tolist() == pytest.approx([255 - 16.3090, 102 - 56.4373, 51 - 116.5132], rel=1e-6)
    assert make("caffe:[1,2,3]")(image, torch.ones(1, 1, 1) > 0).flatten().tolist() == pytest.approx([254, 100, 48])


def test_window() -> None:
    """Values worked out by hand: clipped they are 0, 0, 4, 4, 2."""
    image = torch.tensor([[[-9.0, 0.0, 4.0, 1000.0, 2.0, 3.0]]])
    mask = torch.tensor([[[True, True, True, True, True, False]]])
    found = make("window:low=0:high=4")(image, mask).flatten().tolist()
    std = math.sqrt(16 / 5)
    assert found == pytest.approx([-2 / std, -2 / std, 2 / std, 2 / std, 0, 0])
    assert make("window").state() == {"kind": "window", "low": -79, "high": 304}


def test_local_by_hand() -> None:
    """A mean of a constant within the mask is that constant, whatever is outside."""
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 3:17, 3:17] = True
    image = torch.where(mask, 0.7, -50.0)
    local = make("local:radius=2").load({"kind": "local", "radius": 2, "std": [0.5]})
    assert local(image, mask).abs().max().item() < 1e-5
    spot = image.clone()
    spot[0, 10, 10] += 1
    peak = 1 / (2 * math.pi * 4)
    assert local(spot, mask)[0, 10, 10].item() == pytest.approx((1 - peak) / 0.5, abs=2e-3)


def test_local_is_the_image_less_a_mean_of_what_counts() -> None:
    """Against SciPy's filter, the deviation over the pixels of all images that count."""
    images, radius = [annotated(number, (50, 70)) for number in (0, 1)], 16
    flat = []
    for one in images:
        image, mask = one.image.double().numpy(), one.mask.double().numpy()
        sums, weights = (ndimage.gaussian_filter(part, (0, radius, radius)) for part in (image * mask, mask))
        flat.append((image - sums / weights) * mask)
    values = [part[:, one.mask[0].numpy()] for part, one in zip(flat, images, strict=True)]
    deviation = np.concatenate(values, axis=1).std(axis=1, ddof=1)
    local = make(f"local:radius={radius}").fit(images)
    for one, expected in zip(images, flat, strict=True):
        found = local(one.image, one.mask).double().numpy()
        np.testing.assert_allclose(found, expected / deviation[:, None, None], rtol=1e-5, atol=1e-6)


# ---- What all kinds share -------------------------------------------------------------------------------------------


@by_kind
def test_outside_the_mask(spec: str) -> None:
    """Neither a look at it, nor, where the kind says so, anything but 0."""
    normalise = made(spec)
    one = annotated()
    found = normalise(one.image, one.mask)
    other = normalise(torch.where(one.mask, one.image, -3.0), one.mask)
    assert found.dtype == torch.float32
    inside = one.mask.expand_as(found)
    assert torch.equal(found[inside], other[inside])
    assert bool((found[~inside] == 0).all()) == normalise.zero_outside


@by_kind
def test_a_patch_is_normalised_as_in_its_image(spec: str) -> None:
    normalise = made(spec)
    one = annotated()
    window = (slice(None), slice(3, 15), slice(4, 20))
    levels = normalise.measure(one.image, one.mask)
    shift = levels.shift[window] if levels.shift.shape == one.image.shape else levels.shift
    patch = normalise.apply(one.image[window], one.mask[window], Levels(shift, levels.divisor))
    assert torch.equal(patch, normalise(one.image, one.mask)[window])


@by_kind
def test_the_image_is_left_as_it_is(spec: str) -> None:
    one = annotated()
    kept = one.image.clone()
    made(spec)(one.image, one.mask)
    assert torch.equal(one.image, kept)


@by_kind
def test_state_goes_through_a_file(spec: str) -> None:
    normalise = made(spec)
    state = json.loads(json.dumps(normalise.state()))
    one = annotated(5)
    for again in (from_state(state), make(spec.partition(":")[0]).load(state)):
        assert torch.equal(again(one.image, one.mask), normalise(one.image, one.mask))
        assert again.state() == normalise.state()


@pytest.mark.parametrize("spec", ["zscore", "minmax", "window:low=0:high=1"])
def test_images_without_contrast(spec: str) -> None:
    everywhere = torch.ones(1, 5, 5, dtype=torch.bool)
    for mask in (everywhere, ~everywhere):
        assert make(spec)(torch.full((2, 5, 5), 0.1), mask).abs().max().item() < 1e-6


# ---- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("z-score", "normalise: expected a name such as"),
        ("z_score", "expected one of none, zscore, .*got 'z_score'; did you mean 'zscore'?"),
        ("caffe:mean=[1,2]", r"normalise caffe: mean: expected three numbers, of blue, green and red, got \[1, 2\]"),
        ("local:radius=0", "normalise local: radius: expected a finite number above 0, got 0"),
        ("window:low=4:high=4", "normalise window: high: expected a finite number above low = 4, got 4"),
        ("zscore:radius=3", "normalise zscore: expected no options, got 'radius'"),
    ],
)
def test_specs_that_are_none(spec: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(spec)


def test_a_path_has_to_make_one() -> None:
    with pytest.raises(TypeError, match=r"^normalise: expected collections\.Counter to make a Normalise, got Counter$"):
        make("collections.Counter")


def test_local_has_to_learn_first() -> None:
    one = annotated()
    with pytest.raises(RuntimeError, match=r"^local: expected fit\(images\)"):
        make("local")(one.image, one.mask)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "images: expected at least two pixels in their masks, got 0"),
        ([IMAGES[0], IMAGES[1]._replace(image=IMAGES[1].image[:2])], "images: expected 3 channels, got 2 of image 1"),
        ([IMAGES[0]._replace(image=torch.zeros(1, 24, 31))], "images: expected channels that are not constant"),
    ],
)
def test_images_that_local_cannot_learn_from(images: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        make("local").fit(images)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"kind": "zscore"}, "state: expected kind 'local', got 'zscore'"),
        ({"kind": "local", "radius": 3}, "state: expected a value of std, got kind, radius"),
    ],
)
def test_states_of_something_else(state: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        make("local").load(state)


@pytest.mark.parametrize(
    ("image", "mask", "error", "text"),
    [
        (np.zeros((3, 4, 4)), torch.ones(1, 4, 4) > 0, TypeError, "image: expected a tensor, got ndarray"),
        (
            torch.zeros(3, 4, 4).double(),
            torch.ones(1, 4, 4) > 0,
            TypeError,
            "image: expected dtype float32, got float64",
        ),
        (torch.zeros(3, 4, 4), torch.ones(1, 4, 4), TypeError, "mask: expected dtype bool, got float32"),
        (
            torch.zeros(1, 4, 4),
            torch.ones(1, 4, 4) > 0,
            ValueError,
            r"image: expected shape \(3, \*spatial\), got \(1, 4, 4\)",
        ),
        (torch.zeros(3, 4, 4), torch.ones(4, 4) > 0, ValueError, r"mask: expected shape \(1, 4, 4\), got \(4, 4\)"),
    ],
)
def test_inputs_that_are_none(image: Any, mask: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        make("imagenet")(image, mask)
