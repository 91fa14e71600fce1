"""What a recipe's data are: images to learn from and to validate by, and batches of them from any step on."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from .. import data as room
from .._specs import call, find, parse
from .._validation import check_choice
from ..data import AnnotationCache, BatchStream, Draws, Images, Normalise
from .recipe import Data, Recipe, RecipeError
from .run import Run, RunError

SPLITS = ("train", "test", "all")


def images_of(
    data: Data, seed: int, begun_with: Mapping[str, Sequence[str]] | None = None
) -> tuple[Images, Images | None]:
    """The images to learn from, and those to validate by, if any.

    Args:
        data: of the recipe.
        seed: of what is chosen by chance.
        begun_with: the names that a run began with, ``"train"`` and perhaps ``"validation"``, which it keeps although
            there may be more by now.

    Raises:
        RecipeError: images that are in both, or none at all.
        ValueError: what the data set finds wrong; images that are no longer there.
    """
    validation: Images | None = None
    if not isinstance(data.validation, float) and data.validation is not None:
        validation = _chosen(data, data.validation)
    train = _chosen(data, data.train if data.train is not None else "all")
    if begun_with is not None:
        if validation is None and "validation" in begun_with:
            validation = train
        if validation is not None:
            validation = validation.select(begun_with["validation"])
        return train.select(begun_with["train"]), validation
    if data.train is None and validation is not None:
        train = train.select([name for name in train.names if name not in validation.names])
    if isinstance(data.validation, float):
        held_out = _share(train.names, data.validation, seed)
        if len(train.names) < 2:
            raise RecipeError(
                f"data.validation: expected at least two images to hold a share of out, got {len(train.names)}"
            )
        validation = train.select(held_out)
        train = train.select([name for name in train.names if name not in held_out])
    if not len(train):
        raise RecipeError("data.train: expected images to learn from, got none")
    both = sorted(set(train.names) & set(validation.names)) if validation is not None else []
    if both:
        raise RecipeError(
            f"data.validation: expected other images than in data.train, got {', '.join(both[:5])} in both"
        )
    return train, validation


def images_of_run(run: Run, known: tuple[Images, Images | None] | None = None) -> tuple[Images, Images | None]:
    """The images that a run began with, or those that it will begin with.

    Args:
        run: the run.
        known: those of another run of the same data, whose files need not be hashed again.

    Raises:
        RunError: their files are not what they were.
    """
    recipe, noted = run.recipe, run.about.get("data")
    names = None if noted is None else {part: of_part["names"] for part, of_part in noted.items()}
    train, validation = known if known is not None else images_of(recipe.data, recipe.seed, names)
    for part, images in (("train", train), ("validation", validation)):
        if noted is not None and images is not None and images.digest != noted[part]["digest"]:
            raise RunError(f"{run.folder}: the {part} images are not those that the run began with: files were changed")
    return train, validation


def images_of_split(run: Run, split: str) -> Images:
    """The images of a run that it validates with, or those that it has learnt from.

    Args:
        run: the run.
        split: ``"validation"`` or ``"train"``.

    Raises:
        RunError: the recipe has no such images.
    """
    check_choice("split", split, ("validation", "train"))
    train, validation = images_of_run(run)
    images = validation if split == "validation" else train
    if images is None:
        raise RunError(
            f"{run.folder}: expected a recipe with images in data.validation, got none; split='train' has some"
        )
    return images


def _chosen(data: Data, which: str | list[str]) -> Images:
    """A split of the release, or the images of names."""
    spec = parse("data.dataset", data.dataset)
    made = find("data.dataset", spec, room.DATASETS)
    takes = inspect.signature(made).parameters
    defaults: dict[str, Any] = {} if data.root is None else {"root": data.root}
    if (
        "root" in takes
        and "root" not in spec.options
        and data.root is None
        and takes["root"].default is inspect.Parameter.empty
    ):
        raise RecipeError(f"data.root: expected the folder of {spec.name}, got none: --data.root FOLDER")
    is_split = isinstance(which, str) and which in SPLITS
    if "split" in takes:
        defaults["split"] = which if is_split else "all"
    found: Images = call("data.dataset", spec, made, None, **defaults)
    if is_split:
        if "split" not in takes and which != "all":
            raise RecipeError(
                f"data: expected names of images, or a share of them, since {spec.name} has no split of its own, "
                f"got {which!r}"
            )
        return found
    return found.select([which] if isinstance(which, str) else which)


def _share(names: Sequence[str], share: float, seed: int) -> list[str]:
    """So many of the names, whatever the order they come in."""
    by_hash = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    count = min(len(names) - 1, max(1, round(share * len(names))))
    return [name for name in names if name in set(by_hash[:count])]


class StreamLoader(DataLoader[Any]):
    """A loader that Lightning may stop and go on with: where it is follows from the step, so it has no state."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


def training_loader(
    images: Images, recipe: Recipe, normalise: Normalise, *, segments: bool, start: int, rank: int, ranks: int
) -> StreamLoader:
    """Batches from a step on.

    Args:
        images: to learn from.
        recipe: the recipe.
        normalise: what makes the network's input, fitted.
        segments: whether segments of vessels go along.
        start: the step of the first batch.
        rank: which of the processes this is.
        ranks: how many there are.
    """
    data, cache = recipe.data, AnnotationCache(recipe.data.cache)
    draws = Draws(
        images,
        patch=data.patch,
        per_image=data.per_image,
        positive=data.positive,
        centre=data.centre,
        augment=data.augment,
        normalise=normalise,
        seed=recipe.seed,
        segments=cache.segments if segments else None,
        components=cache.components,
        memory=int(data.memory * 2**30),
    )
    stream = BatchStream(
        len(draws),
        data.batch // recipe.accumulate,
        seed=recipe.seed,
        steps=recipe.steps * recipe.accumulate,
        start=start * recipe.accumulate,
        rank=rank,
        ranks=ranks,
    )
    return _loader(draws, stream, data.workers)


def validation_loader(
    images: Images, recipe: Recipe, normalise: Normalise, *, segments: bool, rank: int, ranks: int
) -> DataLoader[Any]:
    """Whole images, one after the other; each process has its own ones."""
    cache = AnnotationCache(recipe.data.cache)
    draws = Draws(
        images,
        patch=None,
        positive=0.0,
        normalise=normalise,
        seed=recipe.seed,
        segments=cache.segments if segments else None,
        components=None,
        memory=int(recipe.data.memory * 2**30),
    )
    # Fewer images than processes: each validates all of them, since none may have nothing to do. What comes of counting
    # everything as often is the same.
    numbers = range(rank, len(images), ranks) if len(images) >= ranks else range(len(images))
    batches = [[(0, index)] for index in numbers]
    return _loader(draws, batches, min(recipe.data.workers, 1))


def _loader(draws: Draws, batches: Any, workers: int) -> StreamLoader:
    return StreamLoader(
        draws,
        batch_sampler=batches,
        collate_fn=room.collate,
        num_workers=workers,
        worker_init_fn=partial(_end_with, os.getpid()) if workers else None,
        pin_memory=torch.cuda.is_available(),
        # Else each loader would draw from the generator of the losses.
        generator=torch.Generator(),
    )


def _end_with(parent: int, worker: int) -> None:
    """Ends a worker whose process was killed before it began: torch takes whatever parent it finds then for its own."""
    del worker
    if os.getppid() != parent:
        os._exit(1)
