"""Damaged nets: text that may still be a net, with other numbers, names and layers, gives a net or a CaffeError.

A few hundred in every run; ``RAREPIXEL_FUZZ=100000`` sets another number.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import PROTOTXT

pytestmark = pytest.mark.filterwarnings("ignore::rarepixel.caffe.CaffeWarning")

CASES = int(os.environ.get("RAREPIXEL_FUZZ", "420"))
NUMBERS = (
    *("-2147483648", "-1", "0", "1", "2", "3", "7", "1000000", "2147483647", "4294967295"),
    *("1e30", "1e-40", "nan", "inf", "-inf", "true", "false", "MAX", "AVE", "STOCHASTIC"),
)


def damaged(text: str, dice: random.Random) -> str:
    words = re.split(r"(\s+)", text)
    for _ in range(dice.choice((1, 1, 2, 4))):
        numbers = [index for index, word in enumerate(words) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", word)]
        strings = [index for index, word in enumerate(words) if word.startswith('"')]
        kind = dice.random()
        if kind < 0.6:
            words[dice.choice(numbers)] = dice.choice(NUMBERS)
        elif kind < 0.8:
            words[dice.choice(strings)] = words[dice.choice(strings)]
        elif kind < 0.9:
            words[dice.randrange(len(words))] = words[dice.randrange(len(words))]
        else:
            del words[dice.randrange(len(words))]
    return "".join(words)


@pytest.mark.parametrize("name", sorted(path.stem for path in PROTOTXT.glob("*.prototxt")))
def test_damaged_nets(name: str, tmp_path: Path) -> None:
    text = (PROTOTXT / f"{name}.prototxt").read_text()
    path = tmp_path / "net.prototxt"
    refused = []
    cases = CASES // 7
    for case in range(cases):
        path.write_text(damaged(text, random.Random(f"{name} {case}")))
        try:
            caffe.load_net(path, align_crops=case % 2 == 0)
        except caffe.CaffeError as error:
            refused.append(str(error))
    assert 0 < len(refused) < cases
    assert not [error for error in refused if not error.startswith(str(path))]
