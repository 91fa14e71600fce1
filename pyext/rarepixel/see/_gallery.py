"""All pictures of one comparison in one folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._whole_files import write_atomically
from ._landscape import landscape
from ._pixels import pixels
from ._profile import profile
from ._training import training
from .subjects import subject_of
from .writing import Progress, Seen

# What each file answers, in the order of the index.
QUESTIONS = {
    "pixels": "Where in this image does each loss put its gradient?",
    "pixels-frames": "How does that change while the network learns?",
    "profile": "What does each loss make of a pixel, by its logit?",
    "landscape-random": "How does each loss look around the weights that training ended at?",
    "landscape-trajectory": "Which way did the training go, and what is the loss along it?",
    "curvature": "How sharply is the loss bent along the training?",
    "training": "What did the networks say at one half, and how sure were they?",
}


def gallery(
    comparison: str | Path,
    out: str | Path = "docs/images/gallery",
    *,
    image: str | None = None,
    points: int = 51,
    images: int = 8,
    device: str | None = None,
    progress: Progress | None = None,
    estimate: Callable[[float], None] | None = None,
) -> Seen[None]:
    """Makes the pictures of the docs' gallery, all of one comparison, and an index of them.

    Args:
        comparison: its folder, or that of a run alone; with snapshots of the first run.
        out: a folder for the pictures; it is made.
        image: of the pixel maps; see :func:`pixels`.
        points: of landscapes along either axis.
        images: that landscapes are of.
        device: where to compute; None: a GPU if there is one.
        progress: called with a word, what is done, and of all.
        estimate: called with the seconds that a landscape will take, before it starts.

    Returns:
        The files; ``index.md`` is the last one.

    Raises:
        RunError: neither, or one without snapshots.
    """
    folder = Path(out)
    subject_of(comparison)  # complains before anything is drawn
    how: dict[str, Any] = {"out": folder, "device": device, "progress": progress}
    surface: dict[str, Any] = {"points": points, "images": images, "estimate": estimate, **how}
    files = [
        *pixels(comparison, image=image, frames=True, **how).files,
        *profile(comparison, **how).files,
        *landscape(comparison, formats=("png",), **surface).files,
        *landscape(comparison, plane="trajectory", curvature=True, formats=("png",), **surface).files,
        *training(comparison, out=folder, formats=("png",)).files,
    ]
    lines = [f"- [{path.name}]({path.name}): {QUESTIONS[path.stem]}\n" for path in files]
    index = folder / "index.md"
    write_atomically(index, lambda file: file.write("".join(["# Gallery\n\n", *lines]).encode()))
    return Seen(None, (*files, index))
