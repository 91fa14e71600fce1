"""What a trained network finds: maps of probabilities in files, and how good they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from .. import evaluation
from .._validation import check_choice
from ..data import Images, Normalise, normalise, unannotated
from ..evaluation import Evaluation
from ..metrics import PixelCurve
from ..models import size_multiple
from .forward import check_window, log_odds, predict_logits
from .loading import images_of_run, images_of_split
from .run import Run, RunError
from .training import load_weights, make_network

FORMATS = ("png", "tiff", "nii.gz", "npy")
Progress = Callable[[str, int, int], None]  # what, done, of


class Predictor:
    """The network of a run, ready to judge images.

    Args:
        run: the run.
        weights: ``"best"``, ``"last"``, the step of a snapshot, or a file; None: the best if there is one.
        window: of the sliding window, in pixels; None: as in the recipe.
        device: where to compute; None: a GPU if there is one.

    Raises:
        RunError: the run has no weights yet.
    """

    def __init__(
        self,
        run: Run,
        weights: str | None = None,
        *,
        window: int | Sequence[int] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        about = run.about
        if "classes" not in about:
            raise RunError(f"{run.folder}: expected a run that has been trained, got one that has not begun")
        self.recipe = run.recipe
        self.classes: tuple[str, ...] = tuple(about["classes"])
        self.weights = run.weights_path(weights)
        self.device = _device(device)
        self.window = window if window is not None else self.recipe.window
        self.normalise: Normalise = normalise.from_state(about["normalise"])
        self.channels: int = about["channels"]
        network = make_network(self.recipe, self.classes, self.channels, about["spatial_dims"], start=False)
        load_weights(network, self.weights)
        check_window(self.window, about["spatial_dims"], size_multiple(network))
        self.network = network.to(self.device).eval()

    def __call__(self, image: Tensor, mask: Tensor) -> Tensor:
        r"""The log-odds of the classes in an image.

        Args:
            image: float32, (channels, \*spatial), as it was read.
            mask: bool, (1, \*spatial): what counts of it.

        Returns:
            float32, (classes, \*spatial), on the CPU.

        Raises:
            ValueError: the image has other channels than those of the training.
        """
        return log_odds(self.logits(image, mask), self.recipe.activation)[0]

    @torch.no_grad()
    def logits(self, image: Tensor, mask: Tensor) -> Tensor:
        r"""What the network's head says of an image, before sigmoid or softmax.

        Args:
            image: as above, and so is the other.
            mask: the same.

        Returns:
            float32, (1, outputs, \*spatial), on the CPU.

        Raises:
            ValueError: the image has other channels than those of the training.
        """
        if image.shape[0] != self.channels:
            raise ValueError(
                f"image: expected {self.channels} channel{'s' * (self.channels > 1)}, as the run was trained with, "
                f"got {image.shape[0]}"
            )
        seen = self.normalise(image, mask)[None].to(self.device)
        return predict_logits(self.network, seen, self.window, self.recipe.overlap).float().cpu()


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: expected one that there is, such as cpu, got {device} ({reason})") from error
    return found


def predict(
    run: str | Path | Run,
    images: str | Path | Images,
    out: str | Path,
    *,
    fov: str | Path | None = None,
    file_format: str | None = None,
    channels: bool = False,
    weights: str | None = None,
    window: int | Sequence[int] | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes maps of probabilities, that ``rarepixel evaluate`` reads.

    ``png`` has 16 bits, p = level / 65535, ``tiff`` and ``npy`` float16, ``nii.gz`` float32, since NIfTI has no
    float16. A class has a file of its own: ``NAME_MA.png``; where there is but one, ``NAME.png``. Outside the field of
    view p is 0.

    Args:
        run: a run's folder.
        images: a folder of images, one image, or a data set.
        out: the folder of the maps; it is made.
        fov: a folder of fields of view, one file, or ``"threshold"``: found in each photo; None: all pixels.
        file_format: ``png``, ``tiff``, ``nii.gz`` or ``npy``; None: ``nii.gz`` for volumes, else ``png``.
        channels: one file an image, with a channel a class, as maps of class indices are judged against; no ``png``.
        weights: as in :class:`Predictor`.
        window: the same.
        device: the same.
        progress: called with a word, the number of images done, and of all.

    Returns:
        The files.

    Raises:
        RunError: it is no run, or has no weights yet.
        FileError: an image cannot be read, or has other channels than those of the training.
    """
    run = run if isinstance(run, Run) else Run(run)
    if file_format is not None:
        check_choice("file_format", file_format, FORMATS)
    if channels and file_format == "png":
        raise ValueError("file_format: expected npy, tiff or nii.gz of several channels, got 'png'")
    predictor = Predictor(run, weights, window=window, device=device)
    found = images if isinstance(images, Images) else unannotated(images, predictor.classes, fov=fov)
    out, written = Path(out), []
    for place, (mask, odds) in enumerate(_found(predictor, found, progress)):
        probabilities = torch.where(mask, odds.sigmoid(), 0).numpy()
        kind = file_format or ("nii.gz" if probabilities.ndim == 4 else "npy" if channels else "png")
        if channels:
            path = out / f"{found.names[place]}.{kind}"
            _write_map(path, kind, probabilities, found.affine(place))
            written.append(path)
            continue
        for of_class, values in zip(predictor.classes, probabilities, strict=True):
            path = out / f"{_name(found, place, of_class)}.{kind}"
            _write_map(path, kind, values, found.affine(place))
            written.append(path)
    return written


def evaluate(
    run: str | Path | Run,
    out: str | Path | None = None,
    *,
    split: str = "validation",
    weights: str | None = None,
    device: str | torch.device | None = None,
    picture: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Judges a run by the images that its recipe validates with.

    Writes log-odds, which tell apart what rounded probabilities would not, truth and fields of view below ``out``, and
    judges them by :func:`rarepixel.evaluation.evaluate`.

    Args:
        run: a run's folder.
        out: where the files go; None: ``evaluation`` in the run's folder.
        split: ``"validation"`` or ``"train"``.
        weights: as in :class:`Predictor`.
        device: the same.
        picture: draw ``evaluation.png``.
        progress: called with a word, the number of images done, and of all.
        options: see :class:`rarepixel.evaluation.Options`.

    Raises:
        RunError: the recipe has no such images, or the run no weights yet.
    """
    run = run if isinstance(run, Run) else Run(run)
    images = images_of_split(run, split)
    out = run.path("evaluation") if out is None else Path(out)
    predictor = Predictor(run, weights, device=device)
    maps, truth, views = (out / name for name in ("maps", "truth", "fov"))
    _clear(out, (maps, truth, views))
    for place, (mask, odds) in enumerate(_found(predictor, images, progress)):
        affine = images.affine(place)
        for of_class, values, target in zip(images.classes, odds.numpy(), images[place].target, strict=True):
            name = _name(images, place, of_class)
            _write_log_odds(maps / name, values, affine)
            _write_mask(truth / name, target.numpy(), affine)
        _write_mask(views / images.names[place], mask[0].numpy(), affine)
    options = {"classes": images.classes if len(images.classes) > 1 else (), "scores": "logits", **options}
    result = evaluation.evaluate(maps, truth, fov=views, progress=progress, **options)
    result.save(out, picture=picture)
    return result


@torch.inference_mode()
def best_threshold(run: str | Path | Run, *, weights: str | None = None, device: str | None = None) -> dict[str, float]:
    """The threshold of each class with the best Dice coefficient on the images that the run has learnt from.

    Losses that balance classes shift probabilities upwards on purpose, so that 0.5 would favour one or the other.

    Args:
        run: a run's folder.
        weights: as in :class:`Predictor`.
        device: the same.

    Returns:
        A probability for each class; 0.5 where no training image has a positive.
    """
    run = run if isinstance(run, Run) else Run(run)
    images, _ = images_of_run(run)
    predictor = Predictor(run, weights, device=device)
    curves = [PixelCurve() for _ in images.classes]
    for place, (mask, odds) in enumerate(_found(predictor, images, None)):
        target = images[place].target
        for channel, curve in enumerate(curves):
            curve.update(odds[None, channel : channel + 1], target[None, channel : channel + 1], mask[None])
    found = {}
    for name, curve in zip(images.classes, curves, strict=True):
        best = curve.compute()["at_best_f1"]
        found[name] = 0.5 if best is None else float(torch.tensor(best["threshold"], dtype=torch.float64).sigmoid())
    return found


def _clear(out: Path, folders: Sequence[Path]) -> None:
    """Removes what was evaluated there before, and nothing else: a marker says that it was."""
    marker = out / ".evaluation"
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            if not marker.is_file():
                raise RunError(f"{folder}: expected files of an evaluation before, or none; choose another -o")
            shutil.rmtree(folder)
    (out / "evaluation.png").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _found(predictor: Predictor, images: Images, progress: Progress | None) -> Iterator[tuple[Tensor, Tensor]]:
    """What counts of each image, and the log-odds there."""
    for place, one in enumerate(images):
        if progress is not None:
            progress("predicting", place, len(images))
        try:
            odds = predictor(one.image, one.mask)
        except ValueError as error:
            raise ValueError(f"{images.files(place)['image'] or one.name}: {error}") from error
        yield one.mask, odds
    if progress is not None:
        progress("predicting", len(images), len(images))


def _name(images: Images, place: int, of_class: str) -> str:
    return f"{images.names[place]}_{of_class}" if len(images.classes) > 1 else images.names[place]


def _write_map(path: Path, kind: str, values: npt.NDArray[Any], affine: npt.NDArray[Any] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "nii.gz":
        values = np.moveaxis(values, 0, -1) if values.ndim == 4 else values  # of NIfTI classes are the last axis
        _write_nifti(path, values.astype(np.float32), affine)
    elif kind == "npy":
        np.save(path, values.astype(np.float16))
    elif kind == "tiff":
        import tifffile

        tifffile.imwrite(path, values.astype(np.float16), photometric="minisblack")
    else:
        if values.ndim != 2:
            raise ValueError(f"file_format: expected nii.gz, npy or tiff for volumes, got {kind}")
        Image.fromarray(np.rint(values * 65535.0).astype(np.uint16)).save(path)


def _write_log_odds(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[Any] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.ndim == 3:
        _write_nifti(_with_ending(path, "nii.gz"), values, affine)
    else:
        np.save(_with_ending(path, "npy"), values)


def _write_mask(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[Any] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.ndim == 3:
        _write_nifti(_with_ending(path, "nii.gz"), values.astype(np.uint8), affine)
    else:
        Image.fromarray(values.astype(np.uint8) * 255).save(_with_ending(path, "png"))


def _with_ending(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")


def _write_nifti(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[Any] | None) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)  # type: ignore[no-untyped-call]
