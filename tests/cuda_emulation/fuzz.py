"""Random calls of every operator, by emulated CUDA kernels and by the CPU's, which have to agree.

A case is a seed: `python -m tests.cuda_emulation.fuzz --seconds 60` draws them one after another from `--seed` on and
prints those that disagree; `--operators top_k,thin` leaves out the others, `--strict` is for the sanitizer of threads.
Kept bits, skeletons and components have to be the same; what is summed, close; and gradients close, made of the same
table.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rarepixel.metrics._score_nodes import BITS, ROOTS, ScoreNodes
from rarepixel.reference.one_versus_rest import NAMES_NO_CLASS
from rarepixel.reference.score_counts import keys_of
from tests.cuda_emulation import library

T = TypeVar("T")
Arguments = dict[str, Any]

LOGITS = [*[torch.float32] * 2, torch.float16, torch.bfloat16, torch.float64]
LABELS = [
    torch.uint8, torch.float32, torch.bool, torch.int64, torch.int8, torch.int16, torch.int32, torch.float16,
    torch.bfloat16, torch.float64,
]  # fmt: skip
# Results in the dtype, relative; and as much of the largest one, for what is small by cancellation, times RELATIVE.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1.5e-3, torch.bfloat16: 9e-3}
OF_LARGEST = 1e-2


class Draw:
    """What a seed chooses."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def one_of(self, *values: T) -> T:
        return self._random.choice(values)

    def happens(self, probability: float) -> bool:
        return self._random.random() < probability

    def bits(self, number: int) -> int:
        return self._random.getrandbits(number)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=dtype)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def whole(self, below: int, *shape: int) -> Tensor:
        return torch.randint(0, below, shape, generator=self.generator)

    def somewhere(self, tensor: Tensor, value: float) -> None:
        """Writes the value to one element."""
        tensor.view(-1)[self._random.randrange(tensor.numel())] = value


# ---- Inputs ---------------------------------------------------------------------------------------------------------


def elsewhere(draw: Draw, tensor: Tensor) -> Tensor:
    """The same values, often in memory of another layout."""
    kind = draw.one_of(*["contiguous"] * 6, "channels last", "transposed", "padded", "shifted", "every second", "apart")
    *outer, width = tensor.shape
    if kind == "channels last" and tensor.dim() >= 4:
        return tensor.contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d)
    if kind == "transposed" and tensor.dim() >= 4:
        return tensor.mT.contiguous().mT
    if kind == "padded":
        memory = torch.zeros(*outer, width + draw.one_of(1, 2, 4, 8, 16), dtype=tensor.dtype)
        memory[..., :width] = tensor
        return memory[..., :width]
    if kind == "shifted":
        start = draw.one_of(1, 2, 3, 4, 8)
        memory = torch.zeros(tensor.numel() + start, dtype=tensor.dtype)
        memory[start:] = tensor.reshape(-1)
        return memory[start:].view(tensor.shape)
    if kind == "every second":
        memory = torch.zeros(*outer, 2 * width, dtype=tensor.dtype)
        memory[..., ::2] = tensor
        return memory[..., ::2]
    if kind == "apart":  # images and channels with a gap between them
        pixels = math.prod(tensor.shape[2:])
        memory = torch.zeros(*tensor.shape[:2], pixels + draw.one_of(1, 3, 4, 8), dtype=tensor.dtype)
        memory[..., :pixels] = tensor.reshape(*tensor.shape[:2], pixels)
        return memory[..., :pixels].unflatten(2, tensor.shape[2:])
    return tensor


def draw_size(draw: Draw) -> tuple[int, ...]:
    if draw.happens(0.15):
        return (draw.one_of(7, 129, 1000, 4096),)
    if draw.happens(0.12):
        return draw.one_of(2, 5), draw.one_of(8, 17), draw.one_of(8, 16, 9)
    if draw.happens(0.1):
        return draw.one_of(128, 200), draw.one_of(128, 136, 131)
    return draw.one_of(1, 7, 8, 16, 33, 64), draw.one_of(1, 5, 8, 16, 24, 32, 64, 65, 130)


def draw_logits(draw: Draw, shape: tuple[int, ...]) -> Tensor:
    logits = (draw.normal(*shape) * draw.one_of(0.5, 3, 3, 20, 200)).to(draw.one_of(*LOGITS))
    if draw.happens(0.15):
        logits = logits.round()  # ties
    if draw.happens(0.05):
        draw.somewhere(logits, draw.one_of(math.inf, -math.inf, math.nan))
    return logits


def draw_ignore_index(draw: Draw, dtype: torch.dtype) -> int | None:
    if dtype == torch.bool or draw.happens(0.6):
        return None
    fitting = [2, 7] if dtype in (torch.int8, torch.bfloat16, torch.float16) else [2, 255]
    if dtype in (torch.int64, torch.int32, torch.int16, torch.float32, torch.float64):
        fitting.append(-100)
    return draw.one_of(*fitting)


def draw_mask(draw: Draw, shape: tuple[int, ...]) -> Tensor | None:
    if draw.happens(0.6):
        return None
    outer = draw.one_of((shape[0], 1), (1, 1), shape[:2])
    inside = draw.uniform(*outer, *shape[2:]) < draw.one_of(0, 0.5, 0.9)
    mask = inside if draw.happens(0.5) else inside.to(torch.uint8) * draw.one_of(1, 8, 255)
    return elsewhere(draw, mask.expand(shape).contiguous()) if draw.happens(0.3) else mask.expand(shape)


def draw_inputs(draw: Draw, channels: int | None = None) -> Arguments:
    """Logits, labels of 0 and 1 and what else every operator takes."""
    size = draw_size(draw)
    # Of small images sometimes so many channels that several blocks settle them.
    several = 20 if math.prod(size) < 600 and draw.happens(0.2) else draw.one_of(1, 1, 2, 3)
    shape = (draw.one_of(1, 1, 2, 3), channels or several, *size)
    logits = draw_logits(draw, shape)
    target = (draw.uniform(*shape) < draw.one_of(0, 0.001, 0.05, 0.3, 1)).to(draw.one_of(*LABELS))
    ignore_index = draw_ignore_index(draw, target.dtype)
    if ignore_index is not None:
        target[draw.uniform(*shape) < 0.2] = ignore_index
    if target.dtype != torch.bool and draw.happens(0.08):
        draw.somewhere(target, 3)
    return {
        "logits": elsewhere(draw, logits),
        "target": elsewhere(draw, target),
        "mask": draw_mask(draw, shape),
        "ignore_index": ignore_index,
        "balance": draw.one_of(0, 1, 2),
        "reduction": draw.one_of(0, 1, 2),
        "weight": draw_weight(draw, logits),
    }


def draw_weight(draw: Draw, logits: Tensor, *, all_usable: bool = False) -> Tensor | None:
    """Weights of pixels: numbers, some of them 0, and rarely one that means nothing."""
    if draw.happens(0.7):
        return None
    outer = draw.one_of((logits.shape[0], 1), (1, 1), logits.shape[:2])
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    weight = draw.uniform(*outer, *logits.shape[2:], dtype=dtype)
    weight[weight < draw.one_of(0.0, 0.3)] = 0
    if not all_usable and draw.happens(0.1):
        draw.somewhere(weight, draw.one_of(-1.0, math.inf, math.nan))
    return (
        elsewhere(draw, weight.expand(logits.shape).contiguous()) if draw.happens(0.3) else weight.expand(logits.shape)
    )


# ---- Losses ---------------------------------------------------------------------------------------------------------


def squared_error(draw: Draw) -> Arguments:
    return draw_inputs(draw)


def random_drop(draw: Draw) -> Arguments:
    given = draw_inputs(draw)
    given |= {"seed": torch.tensor(draw.bits(63) * draw.one_of(1, -1)), "uniform": None}
    if draw.happens(0.2):
        dtypes = [torch.float64] if given["logits"].dtype == torch.float64 else [torch.float32, torch.float64]
        numbers = draw.uniform(*given["logits"].shape, dtype=draw.one_of(*dtypes))
        given |= {"seed": None, "uniform": elsewhere(draw, numbers)}
    return given | {"schedule": draw.one_of(0, 1, 2), "counts_absent": draw.happens(0.3)}


def top_k(draw: Draw) -> Arguments:
    is_share = draw.happens(0.5)
    k = draw.one_of(0.0, 1e-9, 0.14, 0.5, 1.0) if is_share else draw.one_of(0.0, 1.0, 5.0, 100.0, 1e9)
    options = {"k": torch.tensor(k, dtype=torch.float64), "is_share": is_share, "counts_absent": draw.happens(0.3)}
    return draw_inputs(draw) | options


def borders(bins: int) -> list[float]:
    """Of bins of one width in the probability, as logits."""
    return [math.log(i / (bins - i)) for i in range(1, bins)]


def bin_loss(draw: Draw) -> Arguments:
    bins = draw.one_of(2, 4, 5, 9, 16)
    given = draw_inputs(draw)
    options = {"key": draw.one_of(0.0, 1.0, 3.0, 100.0), "positive_weight": draw.one_of(1.0, 0.5)}
    options |= {"positive_weights": draw_per_channel(draw, given), "counts_absent": draw.happens(0.3)}
    return given | options | {"borders": borders(bins), "bins": bins}


def draw_per_channel(draw: Draw, given: Arguments) -> Tensor | None:
    """A number for each channel, where they are regions."""
    channels = given["logits"].shape[1]
    return draw.uniform(channels, dtype=torch.float64) if given["balance"] == 0 and draw.happens(0.3) else None


def multi_channel_bin(draw: Draw) -> Arguments:
    given = draw_inputs(draw)
    images, channels, *size = given["logits"].shape
    indices = draw.whole(channels + 1, images, 1, *size).to(draw.one_of(torch.uint8, torch.int64, torch.float32))
    if draw.happens(0.1):
        draw.somewhere(indices, 77)
    given |= {"target": indices.expand(given["logits"].shape), "ignore_index": draw.one_of(None, 1, 255), "balance": 0}
    options = {"caffe": draw.happens(0.4), "counts_absent": draw.happens(0.3), "borders": borders(5)}
    return given | {"key": draw.one_of(0.0, 1.0, 3.0)} | options


def draw_terms(draw: Draw, focal: bool = True) -> list[float]:
    """Numbers of foreground and background, and what follows them (FamilyTerms in C++)."""
    exponent = draw.one_of(0.5, 1.0, 2.0) if focal else 0.0
    weight = draw.one_of(0.25, 0.5, 1.0) if focal else 0.0
    foreground = [draw.one_of(0.0, 1.0, 0.5), draw.one_of(0.0, 0.75, 1.0), 0.3, 0.7, weight, exponent]
    background = [draw.one_of(0.0, 1.0), 1.0, 0.5, 0.5, weight, exponent]
    generalized = draw.one_of(1.0, 2.0, 3.0) if draw.happens(0.15) else 0.0
    smooth = draw.one_of(1e-7, 1e-7, 0.0, 1.0)
    return [*foreground, *background, draw.one_of(0.0, -0.5), generalized, smooth, float(draw.happens(0.2))]


def unified_focal(draw: Draw) -> Arguments:
    given = draw_inputs(draw)
    pixel_terms = draw.one_of(0, 1, 2)
    terms = draw_terms(draw, focal=pixel_terms == 2)
    if pixel_terms == 1:
        terms[4] = terms[10] = draw.one_of(0.5, 1.0)
    soft = draw.happens(0.3)
    if soft:
        numbers = draw.uniform(*given["logits"].shape).to(draw.one_of(*LOGITS))
        given |= {"target": elsewhere(draw, numbers), "ignore_index": None}
    per_channel = {name: draw_per_channel(draw, given) for name in ("positive_weights", "class_weights")}
    kind = {"pixel_terms": pixel_terms, "soft_labels": soft, "semimetric": draw.happens(0.5)}
    kind["label_smoothing"] = draw.one_of(0.0, 0.0, 0.2)
    return given | per_channel | {"terms": terms} | kind


def generalized_dice(draw: Draw) -> Arguments:
    given = unified_focal(draw)
    given |= {"balance": 0, "weights": draw.one_of(1, 2, 3), "smooth": draw.one_of(1e-7, 1e-7, 0.0, 1.0)}
    return given


def softmax_unified_focal(draw: Draw) -> Arguments:
    classes = draw.one_of(2, 2, 3, 4, 5, 8, 9, 17)
    given = draw_inputs(draw, classes)
    if given["logits"].numel() > 60000:
        given["logits"] = given["logits"][..., :16].contiguous()
    shape = given["logits"].shape
    truth = draw.whole(classes, shape[0], 1, *shape[2:])
    kind = draw.one_of("map", "map", "one-hot", "soft")
    if kind == "map":
        target = truth.to(draw.one_of(torch.uint8, torch.int64, torch.int32, torch.float32))
    elif kind == "one-hot":
        one_hot = torch.zeros(shape).scatter_(1, truth, 1)
        target = one_hot.to(draw.one_of(torch.float32, torch.uint8, torch.int64))
    else:
        target = torch.softmax(draw.normal(*shape), 1).to(draw.one_of(torch.float32, torch.float64))
    ignore_index = None
    if draw.happens(0.3):
        ignore_index = 255 if target.dtype == torch.uint8 else draw.one_of(-1, 255)
        target[:, :, :1] = ignore_index
    if draw.happens(0.1):
        draw.somewhere(target, 99)
    if ignore_index is not None and kind != "map" and draw.happens(0.3):  # in some of a pixel's channels
        target[:, 0, -1] = ignore_index
        target[0, 1, -1] = draw.one_of(0, 1, 99)
    mask = (draw.uniform(shape[0], 1, *shape[2:]) < 0.8).expand(target.shape) if draw.happens(0.4) else None
    given |= {"target": elsewhere(draw, target), "mask": mask, "ignore_index": ignore_index}
    given |= {"balance": draw.one_of(1, 2), "terms": draw_terms(draw, focal=draw.happens(0.8))}
    weights = draw.uniform(classes, dtype=torch.float64) if draw.happens(0.4) else None
    given |= {"class_weights": weights, "background": draw.one_of(0, classes - 1)}
    # Pixels of weight 0 are masked before.
    given["weight"] = None
    if draw.happens(0.3):
        dtype = torch.float64 if given["logits"].dtype == torch.float64 else torch.float32
        given["weight"] = 0.1 + draw.uniform(shape[0], 1, *shape[2:], dtype=dtype)
    kinds = {"soft_labels": kind == "soft", "semimetric": draw.happens(0.5)}
    return given | kinds | {"label_smoothing": draw.one_of(0.0, 0.0, 0.2)}


def segment_thickness(draw: Draw) -> Arguments:
    images, height, width = draw.one_of(1, 2, 3), draw.one_of(9, 33, 64, 70), draw.one_of(5, 32, 33, 64, 90)
    logits = F.avg_pool2d(3 * draw.normal(images, 1, height, width), 3, 1, 1).to(draw.one_of(*LOGITS))
    segments = [draw.one_of(0, 1, 3, 12) for _ in range(images)]
    ids = torch.zeros(images, height, width, dtype=torch.int32)
    for image, number in enumerate(segments):
        tiles = draw.whole(number + 1, (height + 3) // 4, (width + 6) // 7)
        ids[image] = tiles.repeat_interleave(4, 0)[:height].repeat_interleave(7, 1)[:, :width]
        ids[image][draw.uniform(height, width) < 0.3] *= -1
    if draw.happens(0.1):
        draw.somewhere(ids, draw.one_of(1000, -(2**31), 2**31 - 1))
    return {
        "logits": elsewhere(draw, logits),
        "target": (draw.uniform(images, 1, height, width) < 0.3).to(torch.uint8),
        "mask": draw.uniform(images, 1, height, width) < 0.9 if draw.happens(0.5) else None,
        "ignore_index": None,
        "balance": 1,
        "reduction": draw.one_of(0, 1, 2),
        # All are of use: of two faults in one call the CPU counts the one that it finds first.
        "weight": draw_weight(draw, logits, all_usable=True),
        "ids": ids,
        "starts": torch.tensor([0, *segments]).cumsum(0),
        "segments": sum(segments),
        "min_coverage": 0.2,
        "pixel_weights": [0.5, 1.0, 2.0],
    }


def thin(draw: Draw) -> Arguments:
    images, height = draw.one_of(1, 2, 3), draw.one_of(1, 2, 5, 31, 33, 64, 90, 200)
    width = draw.one_of(1, 3, 31, 32, 33, 64, 65, 97, 128, 300)
    kind = draw.one_of("noise", "noise", "blobs", "vessels", "full", "frame", "zipper")
    if kind == "zipper":  # opens column by column, from its end on
        mask = torch.zeros(images, 8, draw.one_of(150, 300, 700), dtype=torch.bool)
        mask[:, 2:6] = mask[:, :, ::2] = mask[:, :2, -1] = True
    elif kind == "noise":
        mask = draw.uniform(images, height, width) < draw.one_of(0.2, 0.5, 0.8, 0.95)
    elif kind in ("full", "frame"):
        mask = torch.ones(images, height, width, dtype=torch.bool)
        if kind == "frame":
            mask[:, height // 3 : height // 2, width // 3 : width // 2] = False
    else:
        noise = draw.uniform(images, 1, height + 12, width + 12)
        size = draw.one_of(3, 5, 7)
        smooth = F.avg_pool2d(noise, size, 1, size // 2)[:, 0, 6:-6, 6:-6]
        is_near = (smooth - smooth.mean()).abs() < draw.one_of(0.01, 0.03, 0.06)
        mask = is_near if kind == "vessels" else smooth > smooth.mean()
    return {"mask": mask if draw.happens(0.5) else mask.to(torch.uint8) * draw.one_of(1, 255)}


def components(draw: Draw) -> Arguments:
    is_volume = draw.happens(0.4)
    if is_volume:
        size = (draw.one_of(1, 2, 3, 7), draw.one_of(1, 2, 9, 33), draw.one_of(1, 5, 31, 33, 65))
    else:
        size = (draw.one_of(1, 2, 5, 31, 33, 64, 70, 90), draw.one_of(1, 3, 31, 32, 33, 64, 65, 97, 130))
    shape = (draw.one_of(1, 1, 2, 3), draw.one_of(1, 2), *size)
    kind = draw.one_of("noise", "noise", "noise", "full", "snake", "comb", "corners")
    mask = torch.zeros(shape, dtype=torch.bool)
    if kind == "noise":  # about where clusters grow as large as the image
        mask = draw.uniform(*shape) < draw.one_of(0, 0.02, 0.1, 0.14, 0.25, 0.31, 0.41, 0.5, 0.59, 0.8)
    elif kind == "full":
        mask[:] = True
    elif kind == "corners":
        mask[..., ::2, ::2] = mask[..., 1::2, 1::2] = True
    else:
        mask[..., ::2] = True
        if kind == "comb":
            mask[..., draw.one_of(0, -1), :] = True
        else:
            mask[..., -1, 1::4] = mask[..., 0, 3::4] = True
    mask = mask.mT.contiguous() if draw.happens(0.4) else mask
    return {
        "mask": mask if draw.happens(0.5) else mask.to(torch.uint8) * draw.one_of(1, 255),
        "connectivity": draw.one_of(6, 18, 26) if is_volume else draw.one_of(4, 8),
    }


def log_odds(draw: Draw) -> Arguments:
    logits = softmax_unified_focal(draw)["logits"]
    upstream = draw.normal(*logits.shape).to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    upstream *= draw.uniform(logits.shape[0], 1, *logits.shape[2:]) < draw.one_of(0.3, 1)
    return {"logits": logits, "upstream": elsewhere(draw, upstream)}


def channel_labels(draw: Draw) -> Arguments:
    given = softmax_unified_focal(draw)
    target = given["target"]
    if given["soft_labels"]:
        target = (target == target.amax(dim=1, keepdim=True)).to(draw.one_of(*LABELS))
    return {
        "target": target,
        "mask": given["mask"],
        "ignore_index": given["ignore_index"],
        "classes": given["logits"].shape[1],
    }


def score_counts(draw: Draw) -> Arguments:
    given = draw_inputs(draw)
    scores = given["logits"]
    if draw.happens(0.3):
        scores = scores.clamp(-0.01, 0.01)  # crowded
    if scores.element_size() == 2:
        nodes = ScoreNodes.none(scores.device)
    else:
        nodes = ScoreNodes.undivided(scores.dtype)
        for _ in range(draw.one_of(0, 1, 2, 3)):
            of_scores = nodes.find(keys_of(scores.flatten()).numpy())
            nodes.divide_towards(keys_of(scores.flatten()[: draw.one_of(0, 1, 5)]).numpy())
            where = np.unique(of_scores[:: draw.one_of(1, 3)])
            where = where[(nodes.rows[where, BITS].numpy() > 3) & (nodes.links[where].numpy() < 0)]
            nodes.divide(where, np.full(len(where), draw.one_of(1, 3)))
        assert len(nodes.rows) >= ROOTS
    return {
        **{"scores": elsewhere(draw, scores), "target": given["target"], "mask": given["mask"]},
        **{"ignore_index": given["ignore_index"], "roots": nodes.roots, "blocks": nodes.blocks, "links": nodes.links},
    }


OF_NO_LOSS = (thin, components, log_odds, channel_labels, score_counts)
OPERATORS: dict[str, Callable[[Draw], Arguments]] = {
    function.__name__: function
    for function in (
        squared_error, random_drop, top_k, bin_loss, multi_channel_bin, unified_focal, generalized_dice,
        softmax_unified_focal, segment_thickness, *OF_NO_LOSS,
    )
}  # fmt: skip


# ---- Comparing ------------------------------------------------------------------------------------------------------


def difference(actual: Tensor, expected: Tensor, dtype: torch.dtype, smallest_scale: float = 0.0) -> str:
    """Where two results differ by more than results of this dtype may, or ""."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype or actual.stride() != expected.stride():
        return f"{actual.dtype} {tuple(actual.shape)} {actual.stride()}, not {expected.dtype} {tuple(expected.shape)}"
    a, b = actual.double().flatten(), expected.double().flatten()
    finite = b.isfinite()
    if not torch.equal(a[~finite].nan_to_num(0.5), b[~finite].nan_to_num(0.5)) or not a[finite].isfinite().all():
        return "NaN or infinity at other places"
    a, b = a[finite], b[finite]
    if a.numel() == 0:
        return ""
    scale = max(float(b.abs().max()), smallest_scale)
    off = ((a - b).abs() - TOLERANCE[dtype] * (b.abs() + OF_LARGEST * scale)).max()
    return f"off by {float((a - b).abs().max()):.3g}, values up to {scale:.3g}" if off > 0 else ""


def named(schema: Any, arguments: Arguments) -> list[Any]:
    """Arguments in the order of an operator's schema."""
    return [arguments[argument.name] for argument in schema.arguments]


def differences(operator: str, arguments: Arguments) -> list[str]:
    """What emulated kernels make of a call otherwise than the CPU's."""
    assert not library.are_cpu_kernels_replaced(), "there would be nothing to compare with"
    mine, cpu = library.operators(), torch.ops.rarepixel
    if operator == "thin":
        skeleton, expected = mine.thin(**arguments), cpu.thin(**arguments)
        return [] if torch.equal(skeleton, expected) else [f"{int((skeleton != expected).sum())} pixels"]
    if operator == "components":
        found = zip(("labels", "count"), mine.components(**arguments), cpu.components(**arguments), strict=True)
        return [name for name, numbers, expected in found if not torch.equal(numbers, expected)]
    if operator == "channel_labels":
        labels, invalid = library.channel_labels(**arguments)
        expected, of_cpu_invalid = cpu.channel_labels_cpu(**arguments)
        differ = int(((labels != expected) & (labels != NAMES_NO_CLASS)).sum())  # for these Python raises
        return [] if differ == 0 and (invalid > 0) == (of_cpu_invalid > 0) else [f"{differ} labels, {invalid} invalid"]

    if operator == "score_counts":
        counts, wrong = mine.score_counts(**arguments)
        pixels = {"first": 0, "last": arguments["scores"].numel(), "step": 1}
        expected, of_cpu_wrong = cpu.score_counts_cpu(**arguments, **pixels)
        same = torch.equal(counts, expected) and int(wrong) == of_cpu_wrong
        return [] if same else [f"{int((counts != expected).sum())} counts, {int(wrong)} invalid, not {of_cpu_wrong}"]

    found: list[str] = []

    def compare(what: str, actual: Tensor, expected: Tensor, dtype: torch.dtype, smallest_scale: float = 0.0) -> None:
        text = difference(actual, expected, dtype, smallest_scale)
        if text:
            found.append(f"{what}: {text}")

    if operator == "log_odds":
        logits, upstream = arguments["logits"], arguments["upstream"]
        compare("log-odds", mine.log_odds(logits), cpu.log_odds(logits), upstream.dtype, 1.0)
        gradients = (side.log_odds_backward(upstream, logits) for side in (mine, cpu))
        compare("gradient", *gradients, logits.dtype)
        return found

    forward = getattr(cpu, f"{operator}_cpu").default
    given = named(forward._schema, arguments)
    results = getattr(mine, f"{operator}_cpu").default(*given)
    expected = forward(*given)
    names = [result.name for result in forward._schema.returns]
    of_mine, of_cpu = dict(zip(names, results, strict=True)), dict(zip(names, expected, strict=True))
    # Over a softmax the CPU tells some pixels twice, by a label and by the sum of all.
    counted: Any = bool if operator == "softmax_unified_focal" else int
    if counted(of_mine["invalid"]) != counted(of_cpu["invalid"]):
        found.append(f"invalid: {of_mine['invalid']}, not {of_cpu['invalid']}")
    backward = getattr(cpu, f"{operator}_backward").default
    on_mine = getattr(mine, f"{operator}_backward").default
    wide = of_cpu["loss"].dtype
    count = max(of_cpu["loss"].numel(), 1)
    upstream = torch.linspace(-1.5, 2.5, count, dtype=wide)[: of_cpu["loss"].numel()].reshape(of_cpu["loss"].shape)
    if of_cpu["invalid"]:  # for which Python raises; the GPU, whose host cannot look, makes a NaN of it
        gradient = on_mine(*named(backward._schema, {**arguments, **of_mine, "upstream": upstream}))
        if not of_mine["loss"].isnan().any() or not gradient.isnan().any():
            found.append("an invalid pixel gives no NaN")
        return found

    for name in names[:-1]:
        if name == "table":
            for column in range(of_cpu["table"].shape[1]):
                compare(f"column {column}", of_mine["table"][:, column], of_cpu["table"][:, column], wide)
        elif name == "kept":
            if not torch.equal(of_mine["kept"], of_cpu["kept"]):
                found.append("kept bits")
        else:
            compare(name, of_mine[name], of_cpu[name], wide, 1.0)
    given = named(backward._schema, {**arguments, **of_cpu, "upstream": upstream})
    compare("gradient", on_mine(*given), backward(*given), arguments["logits"].dtype)
    if hasattr(cpu, f"{operator}_settle"):
        settle = getattr(cpu, f"{operator}_settle").default
        columns = getattr(cpu, f"{operator}_table")().split()
        sums = 1 + next(int(column.removeprefix("invalid=")) for column in columns if column.startswith("invalid="))
        given = named(settle._schema, {**arguments, "sums": of_cpu["table"][:, :sums].contiguous()})
        for what, actual, value in zip(
            ("settled loss", "settled table"), getattr(mine, f"{operator}_settle")(*given), settle(*given), strict=True
        ):
            compare(what, actual, value, wide, 1.0)
    return found


def describe(arguments: Arguments) -> str:
    def text(value: Any) -> str:
        if isinstance(value, Tensor) and value.numel() > 1:
            return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} {value.stride()}"
        return str(value.item() if isinstance(value, Tensor) else value)

    return ", ".join(f"{name}={text(value)}" for name, value in arguments.items())


def check(operator: str, seed: int, *, strict: bool = False) -> str:
    """What is wrong with the case of a seed, or ""."""
    draw = Draw(seed)
    library.configure(seed, draw.one_of(*library.Order, library.Order.SHUFFLED), strict=strict)
    arguments = OPERATORS[operator](draw)
    try:
        found = differences(operator, arguments)
    except RuntimeError as error:
        found = [str(error)]
    return f"{operator}, seed {seed}: {'; '.join(found)}\n    {describe(arguments)}" if found else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--operators", default=",".join(OPERATORS))
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    operators = options.operators.split(",")
    if not {*operators} <= {*OPERATORS}:
        parser.error(f"--operators: expected some of {', '.join(OPERATORS)}, got {options.operators}")
    torch.set_num_threads(1)
    cases: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    seed, end = options.seed, time.monotonic() + options.seconds
    while time.monotonic() < end:
        for operator in operators:
            cases[operator] += 1
            complaint = check(operator, seed, strict=options.strict)
            if complaint:
                failures[operator] += 1
                print(complaint, flush=True)
        seed += 1
    for operator, number in cases.items():
        print(f"{operator:24} {number:7} cases, {failures[operator]} differ")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
