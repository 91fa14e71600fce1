"""What is looked at: a run, or a comparison, whose runs are looked at under all its losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._criterion import make_loss
from .._names import listed
from .._specs import Spec, nearest, parse
from .._stepping import place as go_to
from .._whole_files import read_tensors
from ..comparison import ComparisonError, ComparisonFolder, split_losses
from ..data import Annotated, Batch, Images
from ..models import size_multiple
from ..train.forward import padded
from ..train.predicting import Predictor
from ..train.run import Run, RunError
from ..viz._directions import check_finite
from ..viz._losses import criteria

OTHERS = ("bce", "random_drop:log", "top_k", "dice")  # beside a run's own loss
LONGEST = 28  # letters of a name that has all options
Named = Mapping[str, Any]  # losses: specs, by what they are called
Sample = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Subject:
    """A run to be looked at, and losses to look with.

    Attributes:
        folder: where pictures go: the run's or the comparison's.
        run: whose network it is.
        losses: of the comparison, the run's own first; of a run alone its own.
        compared: whether it is a comparison's.
    """

    folder: Path
    run: Run
    losses: Named
    compared: bool

    @property
    def name(self) -> str:
        """In titles: what the run was trained with."""
        return f"trained with {next(iter(self.losses))}"


def subject_of(path: str | Path) -> Subject:
    """A run's folder, or that of a comparison: its first run that came to its end.

    Raises:
        RunError: neither.
        ComparisonError: a comparison without such a run.
    """
    if ComparisonFolder.is_one(path):
        folder = ComparisonFolder(path)
        first = next(folder.finished(), None)
        if first is None:
            raise ComparisonError(
                f"{path}: expected a comparison with a training that came to its end, got none; go on with it: "
                f"rarepixel compare {path}"
            )
        own, _, run = first
        named = {own.name: own.loss} | {one.name: one.loss for one in folder.plan.contenders}
        return Subject(folder.folder, run, named, compared=True)
    if not (Path(path) / "recipe.yaml").is_file():
        raise RunError(
            f"{path}: expected the folder of a run, with a recipe.yaml, or of a comparison, with a comparison.yaml, "
            "got neither"
        )
    run = Run(path)
    return Subject(run.folder, run, named_losses([run.recipe.loss]), compared=False)


def losses_of(subject: Subject, losses: str | Sequence[Any] | Named | None, *, others: bool) -> Named:
    """Which losses are looked at, by their names.

    Args:
        subject: the run.
        losses: specs, by names of one's own or without; a text with commas between them; None: those of the comparison;
            of a run alone its own.
        others: beside the run's own, some that everybody knows.
    """
    if losses is not None:
        return named_losses(losses)
    if subject.compared or not others:
        return subject.losses
    known = {parse("loss", loss).name for loss in subject.losses.values()}
    return {**subject.losses, **{one: one for one in OTHERS if parse("loss", one).name not in known}}


def named_losses(losses: str | Sequence[Any] | Named) -> Named:
    """Losses by names that fit above a picture: of a text with commas, specs, or names and specs.

    Raises:
        ValueError: none, one twice, or a text that is no spec.
    """
    if isinstance(losses, Mapping):
        return losses
    specs = [parse("losses", one) for one in (split_losses(losses) if isinstance(losses, str) else losses)]
    if not specs:
        raise ValueError("losses: expected at least one, got none")
    names = [str(spec) for spec in specs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"losses: expected each once, got {twice[0]} twice")
    return dict(zip(shortened(specs), specs, strict=True))


def shortened(specs: Sequence[Spec]) -> list[str]:
    """Losses in words that have room in a picture: without their options where these are long and none other has it."""
    bare = [spec.name for spec in specs]
    return [spec.name if len(str(spec)) > LONGEST and bare.count(spec.name) == 1 else str(spec) for spec in specs]


def made(losses: Named, *, steps: int, step: int, activation: str) -> dict[str, nn.Module]:
    """The losses as they are at a step of a training.

    Args:
        losses: specs.
        steps: of the training.
        step: how many are done. After the last one they are as they were for that one: nothing follows.
        activation: ``"sigmoid"`` or ``"softmax"``.

    Raises:
        ValueError: no such loss, or none for such an activation.
    """
    found = {}
    for name, spec in losses.items():
        loss = make_loss(spec, steps=steps, activation=activation)
        go_to(((loss,), max(0, min(step, steps - 1))))
        found[name] = loss
    return found


def without_segments(losses: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those that need no segments of vessels, which pixels by themselves do not have."""
    return {name: loss for name, loss in losses.items() if not criteria({name: loss})[name].needs_segments}


class Trained:
    """The network of a run, with weights that are numbers.

    Args:
        run: the run.
        weights: ``"best"``, ``"last"``, the step of a snapshot, or a file; None: the last ones.
        device: where to compute; None: a GPU if there is one.

    Attributes:
        run, predictor: as above.
        step: of the training, that the weights are of.

    Raises:
        RunError: it has no weights yet, or some that are NaN or infinite.
    """

    def __init__(self, run: Run, weights: str | None = None, device: str | None = None) -> None:
        self.run = run
        self.predictor = Predictor(run, weights or "last", device=device)
        self.step = _step_of(run, self.predictor.weights)
        _check_finite(self.predictor.weights, self.predictor.network.state_dict())

    @property
    def activation(self) -> str:
        """Of the head."""
        return self.predictor.recipe.activation

    def losses(self, specs: Named) -> dict[str, nn.Module]:
        """Losses as they are at the step of the weights."""
        return made(specs, steps=self.predictor.recipe.steps, step=self.step, activation=self.activation)

    def samples(self, images: Images, number: int) -> list[Sample]:
        """Some images from the first to the last, as the network takes them.

        Args:
            images: all there are.
            number: of those taken.

        Returns:
            Of each the input (1, channels, *spatial), targets (1, classes, *spatial) and what counts (1, 1, *spatial),
            padded to the sizes that the network takes.
        """
        number = min(number, len(images))
        places = [round(place * (len(images) - 1) / max(1, number - 1)) for place in range(number)]
        multiple = size_multiple(self.predictor.network)
        found = []
        for place in places:
            one = images[place]
            seen = self.predictor.normalise(one.image, one.mask)[None]
            batch = padded(Batch(seen, one.target[None], one.mask[None], None, (one.name,), ()), multiple)
            found.append((batch.image, batch.target, batch.mask))
        return found


def batched(samples: Sequence[Sample]) -> list[Sample]:
    """Samples of one size in one batch, whose statistics batch normalisation may take."""
    by_size: dict[tuple[int, ...], list[Sample]] = {}
    for sample in samples:
        by_size.setdefault(tuple(sample[0].shape), []).append(sample)
    return [
        (torch.cat(image), torch.cat(target), torch.cat(mask))
        for image, target, mask in (zip(*alike, strict=True) for alike in by_size.values())
    ]


def checkpoints_of(run: Run, what: str) -> list[tuple[str, Path]]:
    """Snapshots of a training and its last weights, with their steps in words.

    Args:
        run: the run.
        what: needs them, for errors.

    Raises:
        RunError: there are fewer than two.
    """
    found = run.snapshots
    last, step = run.path("weights", "last.pt"), int(run.metrics.get("step", 0))
    if last.is_file() and all(one != step for one, _ in found):
        found = [*found, (step, last)]
    if len(found) < 2:
        raise RunError(
            f"{run.folder}: {what}: expected snapshots of the training, got none; train again into another folder with "
            f"snapshots: {max(1, run.recipe.steps // 12)} in the recipe, or --snapshots "
            f"{max(1, run.recipe.steps // 12)} on the command line"
        )
    return [(f"step {step}", path) for step, path in found]


def thinned(checkpoints: Sequence[tuple[str, Path]], most: int) -> list[tuple[str, Path]]:
    """The first, the last, and some evenly between them."""
    if len(checkpoints) <= most:
        return list(checkpoints)
    places = sorted({round(place * (len(checkpoints) - 1) / (most - 1)) for place in range(most)})
    return [checkpoints[place] for place in places]


def states_of(checkpoints: Sequence[tuple[str, Path]]) -> list[tuple[str, dict[str, Tensor]]]:
    """The weights of checkpoints.

    Raises:
        RunError: some are NaN or infinite.
        ValueError: a damaged file.
    """
    found = []
    for label, path in checkpoints:
        state = read_tensors(path)
        _check_finite(path, state)
        found.append((label, state))
    return found


def channel_of(classes: Sequence[str], of_class: str | None) -> int:
    """The channel of a class; None: of the first one.

    Raises:
        ValueError: no such class.
    """
    if of_class is None:
        return 0
    if of_class not in classes:
        raise ValueError(f"class: expected one of {', '.join(classes)}, got {of_class!r}{nearest(of_class, classes)}")
    return list(classes).index(of_class)


def image_named(images: Images, name: str | None, channel: int) -> Annotated:
    """An image by its name; None: the one that has, of those with anything marked, the median share of it.

    Raises:
        ValueError: no such image.
    """
    if name is not None:
        if name not in images.names:
            raise ValueError(
                f"image: expected one of {listed(images.names)}, got {name!r}{nearest(name, images.names)}"
            )
        return images[images.names.index(name)]
    shares = []
    for place in range(len(images)):
        one = images[place]
        share = (one.target[channel] & one.mask[0]).sum().item() / max(1, int(one.mask.sum()))
        shares.append((share, place))
    marked = sorted(one for one in shares if one[0] > 0) or shares[:1]
    return images[marked[(len(marked) - 1) // 2][1]]


def _step_of(run: Run, weights: Path) -> int:
    """The step that a file of weights is of; the last one where nothing says so."""
    snapshots = {path: step for step, path in run.snapshots}
    if weights in snapshots:
        return snapshots[weights]
    metrics = run.metrics
    part = metrics.get("best") if weights == run.path("weights", "best.pt") else metrics
    return int((part or {}).get("step", run.recipe.steps))


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    try:
        check_finite(str(path), state)
    except ValueError as error:
        raise RunError(f"{error}, by --weights") from None
