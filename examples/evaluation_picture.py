"""Draws the documentation's picture of an evaluation: ``python -m examples.evaluation_picture``.

The photo is scikit-image's, the spots are painted, and the scores are those of a filter for small dark blobs: what
somebody has whose method is no network.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy import ndimage

from rarepixel.data import Annotated, Retina
from rarepixel.evaluation import Evaluation, evaluate

SEEDS = range(3)  # of the spots; each makes an upper and a lower half
LENGTH = 17  # of lines, pixels: more than a spot is wide


def blob_scores(region: Annotated) -> npt.NDArray[np.uint8]:
    """How dark a spot is that is short in every direction, as a map of 8 bits.

    A closing along a line fills what is shorter than the line; a vessel stays dark in its own direction (Walter et al.,
    MedIA 2007).
    """
    green = ndimage.gaussian_filter(region.image[1].numpy(), 1)
    filled = np.min([ndimage.grey_closing(green, footprint=line) for line in lines(LENGTH)], axis=0)
    depth = (filled - green) / (0.05 + ndimage.gaussian_filter(green, 15))
    levels: npt.NDArray[np.uint8] = np.rint(255 / (1 + np.exp(-(depth - 0.08) / 0.013))).astype(np.uint8)
    return levels


def lines(length: int) -> list[npt.NDArray[np.bool_]]:
    """Lines of that length, in twelve directions."""
    steps = np.linspace(-(length - 1) / 2, (length - 1) / 2, 2 * length)
    found = []
    for angle in np.arange(12) * np.pi / 12:
        line = np.zeros((length, length), dtype=bool)
        line[tuple(np.rint((length - 1) / 2 + steps * part).astype(int) for part in (np.sin(angle), np.cos(angle)))] = (
            True
        )
        found.append(line)
    return found


def write_files(folder: Path) -> None:
    """Predictions, truth and fields of view, as others would have them."""
    for name in ("predictions", "truth", "fov"):
        (folder / name).mkdir()
    for seed in SEEDS:
        for half, region in zip(("upper", "lower"), Retina("all", seed), strict=True):
            name = f"retina_{seed + 1}_{half}"
            PIL.Image.fromarray(blob_scores(region)).save(folder / "predictions" / f"{name}.png")
            PIL.Image.fromarray((region.target & region.mask)[0].numpy()).save(folder / "truth" / f"{name}_MA.png")
            PIL.Image.fromarray(region.mask[0].numpy()).save(folder / "fov" / f"{name}_mask.png")


def example() -> Evaluation:
    """Six halves of a retina, judged."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        return evaluate(
            Path(folder) / "predictions", Path(folder) / "truth", fov=Path(folder) / "fov", lesions=True, min_size=4
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.evaluation_picture", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/evaluation.png"), help="%(default)s")
    options = parser.parse_args(arguments)
    found = example()
    print(found)
    drawn = io.BytesIO()
    found.figure().savefig(drawn, dpi=80)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with PIL.Image.open(drawn) as picture:
        # Few colours: nobody sees it, and the file is smaller by far.
        picture.convert("RGB").quantize(96, dither=PIL.Image.Dither.NONE).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
