"""What the module of the Caffe layers takes and refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.legacy_caffe.layers import module, parse_prototxt, run

LOGITS = np.zeros((1, 1, 1, 2), np.float32)
TARGET = np.array([1, 0], np.float32).reshape(1, 1, 1, 2)


def test_layers() -> None:
    assert module.layer_types() == [
        "BinLoss",
        "MultiChannelBinSigmoidCrossEntropyLoss",
        "SigmoidRandomDropCrossEntropyLoss",
        "SigmoidTopKCrossEntropyLoss",
        "SoftmaxSegmentLoss",
    ]


def test_prototxt_as_a_dict() -> None:
    text = 'type: "BinLoss" bin_loss_param { key: -1 lambda: 1 } loss_param { ignore_label: 255 }'
    expected = {"bin_loss_param": {"key": -1, "lambda": 1}, "loss_param": {"ignore_label": 255}}
    assert parse_prototxt(text) == {"type": "BinLoss", **expected}


def test_loss_weight() -> None:
    result = module.run_layer("BinLoss", [LOGITS, TARGET], {"loss_weight": 0.25})
    assert result["top"].shape == ()
    assert result["loss"] == pytest.approx(0.25 * np.log(2))
    assert float(result["top"]) == pytest.approx(np.log(2))
    np.testing.assert_allclose(result["diff"].ravel(), [-0.0625, 0.0625])


def test_without_backward() -> None:
    assert module.run_layer("BinLoss", [LOGITS, TARGET], backward=False)["diff"] is None


def test_any_layout_of_memory() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2, 3, 4, 5))
    target = (generator.random((2, 3, 4, 5)) < 0.3).astype(np.float64)
    there = [np.asfortranarray(logits), np.repeat(target, 2, axis=3)[..., ::2]]
    expected, actual = run("BinLoss", [logits, target]), run("BinLoss", there)
    assert actual.loss == expected.loss
    np.testing.assert_array_equal(actual.gradient, expected.gradient)


def test_the_generator_goes_on_without_a_seed() -> None:
    first = module.uniform(4, seed=3)
    second = module.uniform(4)
    np.testing.assert_array_equal(np.concatenate([first, second]), module.uniform(8, seed=3))
    logits, target = np.zeros((1, 1, 20, 20)), np.eye(20)[None, None]
    runs = [run("SigmoidRandomDropCrossEntropyLoss", [logits, target], seed=seed) for seed in (5, None, 5)]
    assert np.array_equal(runs[0].gradient, runs[2].gradient)
    assert not np.array_equal(runs[0].gradient, runs[1].gradient)


@pytest.mark.parametrize(
    ("kind", "bottoms", "parameters", "error", "text"),
    [
        ("BinLoss", [LOGITS, TARGET], {"bin_loss_param": {"keys": 1}}, ValueError, "bin_loss_param: no field 'keys'"),
        ("BinLoss", [LOGITS, TARGET], {"bin": 1}, ValueError, "LayerParameter: no field 'bin'"),
        ("BinLoss", [LOGITS, TARGET], {"bin_loss_param": {"key": "a"}}, TypeError, "bin_loss_param.key: got 'a'"),
        ("BinLoss", [LOGITS, TARGET], {"bin_loss_param": 3}, TypeError, "LayerParameter.bin_loss_param: got 3"),
        ("BinLoss", [], {}, ValueError, "at least one array"),
        ("BinLoss", [LOGITS.astype(np.int64), TARGET], {}, TypeError, "expected float32 or float64, got int64"),
        ("BinLoss", [LOGITS, TARGET.astype(np.float64)], {}, TypeError, "arrays of one dtype"),
        ("BinLoss", [LOGITS], {}, module.CheckError, "number of bottoms"),
        ("BinLoss", [LOGITS, TARGET[..., :1]], {}, module.CheckError, r"\(2 vs. 1\) BinLoss needs a label for each"),
        ("Bin", [LOGITS, TARGET], {}, module.CheckError, "Unknown layer type: Bin"),
        (
            "SigmoidRandomDropCrossEntropyLoss",
            [LOGITS, TARGET],
            {"randrop_loss_param": {"schedule_type": "CUBE"}},
            ValueError,
            "expected LINEAR, SQU or LOG, got CUBE",
        ),
    ],
)
def test_refusals(kind: str, bottoms: Any, parameters: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        module.run_layer(kind, bottoms, parameters)
