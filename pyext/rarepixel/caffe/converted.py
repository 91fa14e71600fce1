"""Nets with their weights as PyTorch files: what ``rarepixel caffe convert`` writes, and what reads it."""

from __future__ import annotations

import os
import pathlib
import pickle
from typing import Any

import torch

from ._kinds import CONVERTED
from ._messages import parse_net, what_it_is
from ._schema import CaffeError
from .loading import build
from .net import CaffeNet

Path = str | os.PathLike[str]


def to_stored(net: CaffeNet, prototxt: str, options: dict[str, Any]) -> dict[str, Any]:
    """What is saved of a net.

    Args:
        net: the net, with its weights.
        prototxt: the text that it was made of.
        options: the arguments of :func:`rarepixel.caffe.load_net` that decide how it is built.
    """
    phase = "train" if net.training else "test"
    return {
        "state_dict": net.state_dict(),
        "prototxt": prototxt,
        "phase": phase,
        "options": {**options, "phase": phase},
        "shapes": net.stored_shapes,
    }


def load_converted(path: Path) -> CaffeNet:
    """Makes a Module of what ``rarepixel caffe convert`` wrote, as it was: with its weights, phase and options.

    Args:
        path: the file. It holds ``state_dict``, ``prototxt``, ``phase``, ``options`` (the arguments of
            :func:`load_net`) and ``shapes`` (of the blobs in the caffemodel, which decide where the prototxt does not).

    Raises:
        CaffeError: another file, or one whose prototxt cannot be read or carried over.
        OSError: the file cannot be opened.
    """
    name = os.fspath(path)
    expected = "expected a file that `rarepixel caffe convert` wrote"
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise CaffeError(f"{name}: {expected}: {str(error)[:300]}{what_it_is(name, CONVERTED)}") from None
    if not isinstance(stored, dict) or not {"state_dict", "prototxt", "phase"} <= stored.keys():
        got = ", ".join(map(str, stored)) if isinstance(stored, dict) else type(stored).__name__
        raise CaffeError(f"{name}: {expected}, got {got[:300]}")
    options = {"phase": stored["phase"], **stored.get("options", {})}
    file = parse_net(stored["prototxt"], pathlib.Path(name), options.get("aliases"))
    net = build(file, stored.get("shapes", {}), **options).net
    net.load_state_dict(stored["state_dict"])
    return net.train(options["phase"] == "train")
