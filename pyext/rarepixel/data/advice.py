"""What a data set suggests: the size of patches, how many are centred on what is rare, and losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# A share of patches with something rare in them that lets every batch teach it.
_WANTED = 0.6
_MOST_CENTRED = 0.5
_RARE, _MODERATE = 0.01, 0.05


@dataclass(frozen=True)
class Suggestion:
    """What to try, and why, in a sentence.

    Attributes:
        value: a size, a share, or the name of a loss.
        why: the reason.
    """

    value: int | float | str
    why: str


def suggest_patch_size(sizes: Sequence[tuple[int, ...]], widths: Sequence[float], thin: bool) -> Suggestion:
    """A size of patches, pixels a side, a multiple of 32 (of volumes 16).

    Args:
        sizes: of all images, (*spatial).
        widths: of lesions, pixels; the largest 5 % do not count.
        thin: whether they are vessels, whose patches show a part of the tree.
    """
    shortest = min(min(size) for size in sizes)
    volumes = any(len(size) > 2 for size in sizes)
    step, smallest, largest = (16, 32, 128) if volumes else (32, 128, 512)
    fitting = max(shortest // step * step, 1) if shortest >= step else shortest
    unit = "voxels" if volumes else "pixels"
    if thin:
        wanted, why = shortest / 4, f"a quarter of the image's {shortest} {unit}: enough of a vessel to follow it"
    elif widths:
        width = sorted(widths)[int(0.95 * (len(widths) - 1))]
        wanted, why = (
            4 * width,
            f"four times the {width:.0f} {unit} that larger lesions measure, with their surroundings",
        )
    else:
        wanted, why = smallest, "nothing is marked"
    size = math.ceil(wanted / step) * step
    if size < smallest:
        size, why = smallest, f"{why}, and no smaller, for five halvings in a network"
    elif size > largest:
        size, why = largest, f"{why}, and no larger, for several patches a batch"
    if size > fitting:
        size, why = fitting, f"the image's shorter side, {shortest} {unit}"
    return Suggestion(size, f"{why[0].upper()}{why[1:]}.")


def suggest_balance(shares: dict[str, float], thin: bool) -> Suggestion:
    """What share of patches to centre on pixels of the rarest class.

    Args:
        shares: of patches drawn anywhere that have something of a class, by class.
        thin: whether it is vessels.
    """
    if thin or not shares:
        return Suggestion(0.0, "Patches drawn anywhere have vessels in them." if thin else "Nothing is marked.")
    rarest = min(shares, key=lambda name: shares[name])
    share = shares[rarest]
    said = f"Of patches drawn anywhere {share:.0%} have {rarest} in them"
    if share >= _WANTED:
        return Suggestion(0.0, f"{said}: enough.")
    wanted = (_WANTED - share) / (1 - share)
    if wanted > _MOST_CENTRED:
        return Suggestion(
            _MOST_CENTRED, f"{said}; more than half centred would show too little of where false alarms come from."
        )
    balance = max(0.05, round(20 * wanted) / 20)
    return Suggestion(balance, f"{said}; so it will be {share + balance * (1 - share):.0%}.")


def suggest_losses(prevalence: float, thin: bool) -> tuple[Suggestion, ...]:
    """Losses for a class, the first to try first.

    Args:
        prevalence: its share of the pixels that count.
        thin: whether it is vessels.
    """
    if prevalence == 0:
        return ()
    random_drop = "class balance, with easy background dropped at random: nothing to tune."
    if thin:
        rare = [Suggestion("top_k", "below 1 % of the pixels: keep the hardest of the others.")]
        return (
            Suggestion(
                "joint",
                "thin and long: a segment-level loss beside a pixel-wise one weighs the thickness of a thin segment "
                "like that of a thick one.",
            ),
            *(rare if prevalence < _RARE else []),
            Suggestion("random_drop", random_drop),
            Suggestion("unified_focal", "overlap and cross-entropy in one, where their balance is to be tuned."),
        )
    if prevalence < _RARE:
        return (
            Suggestion(
                "top_k", "below 1 % of the pixels: the k hardest others outweigh the masses of easy background."
            ),
            Suggestion("two_stage", "top-k first, then squared error, which forgives annotators' misses."),
            Suggestion("random_drop", random_drop),
        )
    if prevalence < _MODERATE:
        return (
            Suggestion("random_drop", random_drop),
            Suggestion("unified_focal", "overlap and cross-entropy in one, both with less weight on what is easy."),
            Suggestion("focal_tversky", "where misses are worse than false alarms: its alpha and beta say how much."),
        )
    return (
        Suggestion("unified_focal", "moderately balanced: overlap and cross-entropy in one."),
        Suggestion("dice", "overlap alone, which needs no class weights at this share."),
        Suggestion("weighted_cross_entropy", "the plain loss, with the best calibrated probabilities."),
    )
