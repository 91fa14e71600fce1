"""Recipes: all that a training depends on, in one short file; a name, a file, and what is said on the command line."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from .._specs import load_yaml, nearest
from .._validation import check_choice, check_range

RECIPES = Path(__file__).parent / "recipes"
ACTIVATIONS = ("sigmoid", "softmax")
PRECISIONS = ("32", "bf16", "fp16", "64")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")


class RecipeError(ValueError):
    """A recipe that says what cannot be."""


@dataclass
class Data:
    """What is learnt from.

    Args:
        dataset: a name of ``rarepixel.data.DATASETS`` with options, ``idrid:downsample=4``, or an import path.
        root: the folder of the data set.
        train: which images: a split of the release (``train``), names or patterns of names; null: all of them but
            those of ``validation``.
        validation: the same, or a share of the training images between 0 and 1, chosen by the seed; null: none.
        patch: the size of patches in pixels, one number or one a dimension; null: whole images.
        per_image: how many patches of an image an epoch has.
        batch: patches a step, those of all processes and of all steps that are accumulated together.
        positive: the share of patches that are centred on what is rare.
        centre: on a random "lesion", so that small ones come as often as large ones, or on a random "pixel" of them.
        augment: names of augmentations, in their order.
        normalise: what the network sees of an image.
        workers: processes that read images; 0: none beside the training.
        memory: how many GiB of images each of them keeps.
        cache: the folder of segment maps and component numbers; null: that of the user.
    """

    dataset: Any = "retina"
    root: str | None = None
    train: str | list[str] | None = "train"
    validation: float | str | list[str] | None = "test"
    patch: int | list[int] | None = None
    per_image: int = 1
    batch: int = 1
    positive: float = 0.0
    centre: str = "lesion"
    augment: list[Any] = field(default_factory=list)
    normalise: Any = "zscore"
    workers: int = 0
    memory: float = 2.0
    cache: str | None = None


@dataclass
class Recipe:
    """A training.

    Args:
        title: what it is, in a sentence.
        data: what is learnt from.
        model: a name of ``rarepixel.models.MODELS`` with options, or an import path.
        pretrained: a file of weights to start from, a run's or the model's own format; null: the model's start.
        activation: sigmoid: a channel a class, each by itself; softmax: a channel more, the background, of which one
            is true.
        prior_start: start the output at the share of positives of each class (Lin et al., ICCV 2017).
        loss: a name of ``rarepixel.train.LOSSES`` with options: ``top_k:k=0.05``; or an import path.
        optimizer: adamw, adam, sgd or rmsprop with options, or an import path.
        schedule: of the learning rate: constant, one_cycle, cosine, polynomial, step or plateau with options.
        steps: how many there are.
        accumulate: batches are cut into so many, one after the other.
        clip: the largest norm of the gradient; null: any.
        precision: 32, 64, bf16 or fp16.
        compile: let torch.compile make the model's kernels.
        accelerator: auto, cpu, gpu or mps.
        devices: how many on this machine; null: one CPU, all GPUs, or what torchrun and SLURM say.
        validate_every: steps from one validation to the next.
        window: the size of windows that whole images are predicted in; null: at once.
        overlap: the share of a window that its neighbour sees, too.
        monitor: what says which weights are best, and when to stop: a column of validation.csv, whose largest value is
            best; or loss, whose smallest is (of a loss that changes as training goes on, such as top_k or two_stage,
            values cannot be compared).
        patience: validations without a better one before the training stops; null: it never does.
        checkpoint_every: steps from one checkpoint to the next: what a sudden end costs at most.
        snapshots: steps from one snapshot of the weights to the next, kept as a series; null: none.
        seed: of everything random.
    """

    title: str = ""
    data: Data = field(default_factory=Data)
    model: Any = "small_unet"
    pretrained: str | None = None
    activation: str = "sigmoid"
    prior_start: bool = False
    loss: Any = "bce"
    optimizer: Any = "adamw"
    schedule: Any = "constant"
    steps: int = 1000
    accumulate: int = 1
    clip: float | None = None
    precision: str = "32"
    compile: bool = False
    accelerator: str = "auto"
    devices: int | None = None
    validate_every: int = 100
    window: int | list[int] | None = None
    overlap: float = 0.25
    monitor: str = "average_precision"
    patience: int | None = None
    checkpoint_every: int = 100
    snapshots: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuses numbers and words that cannot be meant."""
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("accelerator", self.accelerator, ACCELERATORS)
        for name in ("steps", "accumulate", "validate_every", "checkpoint_every"):
            _at_least_1(name, getattr(self, name))
        for name in ("devices", "patience", "snapshots"):
            if getattr(self, name) is not None:
                _at_least_1(name, getattr(self, name))
        for name in ("per_image", "batch"):
            _at_least_1(f"data.{name}", getattr(self.data, name))
        check_choice("data.centre", self.data.centre, ("lesion", "pixel"))
        check_range("data.positive", self.data.positive, 0, 1)
        check_range("data.memory", self.data.memory, 0, math.inf)
        check_range("overlap", self.overlap, 0, 0.99)
        if self.clip is not None and not self.clip > 0:
            raise RecipeError(f"clip: expected a number above 0, or null, got {self.clip}")
        if self.data.workers < 0:
            raise RecipeError(f"data.workers: expected at least 0, got {self.data.workers}")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"seed: expected 0 to 2^63 - 1, got {self.seed}")
        share = self.data.validation
        if isinstance(share, float) and not 0 < share < 1:
            raise RecipeError(f"data.validation: expected a share between 0 and 1, or names, got {share}")
        if self.data.batch % self.accumulate:
            raise RecipeError(
                f"accumulate: expected a number that data.batch = {self.data.batch} can be divided by, "
                f"got {self.accumulate}"
            )
        for name, size in (("data.patch", self.data.patch), ("window", self.window)):
            if size is not None and min(size if isinstance(size, list) else [size], default=0) < 1:
                raise RecipeError(f"{name}: expected pixels, at least 1, got {size}")
        if self.patience is not None and self.data.validation is None:
            raise RecipeError("patience: expected images in data.validation to stop by, got none")


def read_recipe(recipe: str | Path | Recipe | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe, by the name of a shipped one or from a file, with what is said otherwise.

    Args:
        recipe: a name of :func:`shipped_recipes`, a YAML file, a recipe, or the content of such a file.
        overrides: as on the command line: ``["--steps", "100", "--data.batch=2", "--loss", "top_k:k=0.05"]``.

    Raises:
        RecipeError: no such recipe; a key that there is not (the text has the nearest one), a value of the wrong type.
        FileNotFoundError: no such file.
    """
    source, content = _content(recipe)
    if isinstance(content.get("precision"), int):
        content["precision"] = str(content["precision"])
    if not isinstance(content.get("data", {}), dict):
        raise RecipeError(f"{source}: data: expected a mapping of its keys, got {content['data']!r}")
    known = list(_keys(Recipe))
    for key in _keys_of_file(content, known):
        if key not in known:
            raise RecipeError(f"{source}: {_no_such_key(key, known)}")
    for argument in overrides:
        if argument.startswith("--"):
            key = argument[2:].partition("=")[0]
            if key not in known:
                raise RecipeError(f"--{key}: {_no_such_key(key, known)}")
    parser = _parser()
    try:
        found = parser.parse_object(content)
    except ArgumentError as error:
        raise RecipeError(f"{source}: {_plain(str(error))}") from None
    try:
        found = parser.parse_args(_joined(overrides), namespace=found)
    except ArgumentError as error:
        raise RecipeError(f"overrides: {_plain(str(error))}") from None
    made = _made(found)
    made.check()
    return made


def dump_recipe(recipe: Recipe) -> str:
    """All of a recipe as YAML."""
    return str(yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True, width=100))


def shipped_recipes() -> dict[str, str]:
    """The names of the recipes that come with the package, and their titles."""
    return {path.stem: load_yaml(path.read_text())["title"] for path in sorted(RECIPES.glob("*.yaml"))}


def _content(recipe: str | Path | Recipe | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a recipe says, and where."""
    if isinstance(recipe, Mapping):
        return "recipe", dict(recipe)
    if isinstance(recipe, Recipe):
        source, text = "recipe", dump_recipe(recipe)
    else:
        path = _path_of(recipe)
        source, text = str(path), path.read_text()
    try:
        content = load_yaml(text) or {}
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: expected YAML, got {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{source}: expected a mapping of names to values, got {type(content).__name__}")
    return source, content


def _path_of(recipe: str | Path) -> Path:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such recipe")
        return path
    shipped = RECIPES / f"{recipe}.yaml"
    if not shipped.is_file():
        names = [one.stem for one in sorted(RECIPES.glob("*.yaml"))]
        raise RecipeError(
            f"recipe: expected the name of a shipped one ({', '.join(names)}), a YAML file or the folder of a run, got "
            f"{str(recipe)!r}{nearest(str(recipe), names)}"
        )
    return shipped


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="rarepixel train RECIPE", exit_on_error=False, add_help=False)
    parser.add_class_arguments(Recipe)
    return parser


def _made(found: Any) -> Recipe:
    values = dict(found.as_dict())
    return Recipe(**{**values, "data": Data(**values["data"])})


def _joined(overrides: Sequence[str]) -> list[str]:
    """With a value in the same word as its key: one that begins with a minus is a value, too."""
    words: list[str] = []
    waiting = False
    for word in overrides:
        if waiting:
            words[-1] += f"={word}"
            waiting = False
        elif word.startswith("--"):
            words.append(word)
            waiting = "=" not in word
        else:
            raise RecipeError(f"{word!r}: expected --key value or --key=value")
    if waiting:
        raise RecipeError(f"{words[-1]}: expected a value after it")
    return words


def _keys(of: type, prefix: str = "") -> Iterator[str]:
    types = typing.get_type_hints(of)
    for one in dataclasses.fields(of):
        yield prefix + one.name
        if dataclasses.is_dataclass(types[one.name]):
            yield from _keys(types[one.name], f"{prefix}{one.name}.")


def _keys_of_file(content: dict[str, Any], known: Sequence[str]) -> Iterator[str]:
    for key, value in content.items():
        yield str(key)
        if isinstance(value, dict) and any(one.startswith(f"{key}.") for one in known):
            yield from (f"{key}.{inner}" for inner in value)


def _no_such_key(key: str, known: Sequence[str]) -> str:
    owner = next(
        (one for one in known if key.startswith(f"{one}.") and not any(k.startswith(f"{one}.") for k in known)), None
    )
    if owner is not None:
        return f"expected options of {owner} within it, as --{owner} 'name:option=value', got {key!r}"
    short = key.rpartition(".")[2].replace("-", "_")
    last = {one.rpartition(".")[2]: one for one in reversed(known)}
    found = difflib.get_close_matches(short, last, n=1, cutoff=0.6)
    hint = f"; did you mean {last[found[0]]!r}?" if found else f"; there are {', '.join(known)}"
    return f"no key {key!r}{hint}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("Parser key ", "")


def _at_least_1(name: str, value: int) -> None:
    if value < 1:
        raise RecipeError(f"{name}: expected at least 1, got {value}")
