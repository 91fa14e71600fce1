"""Whole nets against OpenCV's own reading of the same prototxt and the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("google.protobuf")
pytest.importorskip("cv2")

import cv2

from rarepixel import caffe

from .nets import PROTOTXT, randomize

pytestmark = pytest.mark.skipif(not hasattr(cv2.dnn, "readNetFromCaffe"), reason="OpenCV 5 has no Caffe importer")

# Height and width beside those of the file; none where the size decides about parameters.
SIZES: dict[str, list[tuple[int, int]]] = {
    "vgg_side_outputs": [(45, 61), (64, 37), (33, 50)],
    "inception": [(67, 50)],
    "resnet": [(43, 37), (64, 65), (31, 40)],
    "dilated_groups": [(33, 29), (20, 47)],
    "others": [(13, 11)],
}
CASES = [(name, size) for name, sizes in SIZES.items() for size in sizes]


@pytest.mark.parametrize(("name", "size"), CASES, ids=[f"{name}-{h}x{w}" for name, (h, w) in CASES])
def test_every_output(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    prototxt, weights = PROTOTXT / f"{name}.prototxt", tmp_path / "random.caffemodel"
    net = caffe.load_net(prototxt, phase="test")
    randomize(net)
    caffe.save_weights(net, weights)

    shape = net.inputs["data"]
    assert shape is not None
    data = torch.randn([*(side or 1 for side in shape[:2]), *size])
    with torch.no_grad():
        outputs = caffe.load_net(prototxt, weights, phase="test")(data=data)
    theirs: Any = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
    theirs.setInput(data.numpy(), "data")
    assert sorted(outputs) == sorted(theirs.getUnconnectedOutLayersNames())
    for blob, ours in outputs.items():
        assert ours.std() > 0.01, f"{blob} hardly depends on anything"
        np.testing.assert_allclose(ours.numpy(), theirs.forward(blob), rtol=0, atol=1e-4, err_msg=blob)


@pytest.mark.parametrize("name", SIZES)
def test_shapes_are_known_without_running(name: str) -> None:
    net = caffe.load_net(PROTOTXT / f"{name}.prototxt", phase="test")
    data = torch.randn([side or 1 for side in net.inputs["data"] or ()])
    outputs = net(data=data)
    known = {top: shape for row in net.table() for top, shape in zip(row.tops, row.shapes, strict=True)}
    assert {blob: tuple(value.shape) for blob, value in outputs.items()} == {blob: known[blob] for blob in outputs}
