"""Which layers are there, and their parameters: multipliers, sharing, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("google.protobuf")

from rarepixel import caffe

from .nets import DATA, Make, conv

# ---- Rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "options", "there"),
    [
        ("", {}, True),
        ("include { phase: TRAIN }", {}, True),
        ("include { phase: TEST }", {}, False),
        ("include { phase: TEST }", {"phase": "test"}, True),
        ("exclude { phase: TRAIN }", {}, False),
        ("include { phase: TEST } include { stage: 'a' }", {"stages": ["a"]}, True),
        ("include { phase: TEST stage: 'a' }", {"stages": ["a"]}, False),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["a"]}, False),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["a", "b", "c"]}, True),
        ("include { not_stage: 'a' }", {"stages": ["a"]}, False),
        ("include { not_stage: 'a' }", {"stages": ["b"]}, True),
        ("include { min_level: 1 }", {}, False),
        ("include { min_level: 1 max_level: 3 }", {"level": 2}, True),
        ("include { min_level: 1 max_level: 3 }", {"level": 4}, False),
        ("exclude { max_level: 1 }", {"level": 2}, True),
        ("exclude { phase: TEST } exclude { stage: 'a' }", {"stages": ["a"]}, False),
    ],
)
def test_rules(make: Make, rule: str, options: dict[str, Any], there: bool) -> None:
    assert ("conv" in make(DATA + conv("conv", more=rule), **options).layer_names) == there


def test_one_name_in_both_phases(make: Make) -> None:
    text = "".join(
        f'layer {{ name: "data" type: "Data" top: "{top}" include {{ phase: {phase} }} }}\n'
        for top, phase in (("train_data", "TRAIN"), ("test_data", "TEST"))
    )
    assert set(make(text).inputs) == {"train_data"}
    assert set(make(text, phase="test").inputs) == {"test_data"}


# ---- Parameters -----------------------------------------------------------------------------------------------------


def test_multipliers(make: Make) -> None:
    text = conv("one", more="param { lr_mult: 0.5 decay_mult: 2 } param { lr_mult: 0 }") + conv("two", "one")
    net = make(DATA + text)
    assert net.caffe_multipliers == {
        "one.weight": (0.5, 2.0),
        "one.bias": (0.0, 1.0),
        "two.weight": (1.0, 1.0),
        "two.bias": (1.0, 1.0),
    }
    assert not net.one.bias.requires_grad
    assert net.one.weight.requires_grad


def test_shared_parameters(make: Make) -> None:
    text = conv("one", more='param { name: "w" }') + conv("two", "one", 'param { name: "w" lr_mult: 3 } param { }')
    net = make(DATA + text)
    assert net.one.weight is net.two.weight
    assert net.one.bias is not net.two.bias
    assert net.caffe_multipliers == {"one.weight": (3.0, 1.0), "one.bias": (1.0, 1.0), "two.bias": (1.0, 1.0)}
    text = conv("one", more='param { name: "w" lr_mult: 2 }') + conv("two", "one", 'param { name: "w" lr_mult: 3 }')
    with pytest.raises(caffe.CaffeError, match=r"param 'w': expected lr_mult 2.0 as before, got 3.0"):
        make(DATA + text)
    other = conv("two", "one", 'param { name: "w" }').replace("num_output: 3", "num_output: 4")
    with pytest.raises(
        caffe.CaffeError, match=r"param 'w': expected shape \(3, 3, 3, 3\) as in .*, got \(4, 3, 3, 3\)"
    ):
        make(DATA + conv("one", more='param { name: "w" }') + other)


def test_propagate_down(make: Make) -> None:
    net = make(DATA + conv("one") + conv("two", "one", "propagate_down: false"))
    net(data=torch.randn(1, 3, 8, 8))["two"].sum().backward()
    assert net.one.weight.grad is None
    assert net.two.weight.grad is not None
