"""Red-Seg trains on real images: at every step its losses are those of the reference layers on the same blobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("google.protobuf")
pytest.importorskip("PIL")

from PIL import Image

from rarepixel import caffe
from rarepixel.caffe._messages import read_net
from tests.conftest import GOLDEN, assert_close
from tests.legacy_caffe.layers import Run, run

from .test_red_seg import FOLDER, LOSSES

DATA = GOLDEN.parent / "data" / "IDRiD_quarter" / "A. Segmentation"
PHOTO = "1. Original Images/a. Training Set/IDRiD_{}.jpg"
# HE are haemorrhages, of which three of the windows have none: exudates, which are bright, stand in for them.
MASKS = {
    "label_ma": "2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/IDRiD_{}_MA.tif",
    "label_he": "2. All Segmentation Groundtruths/a. Training Set/3. Hard Exudates/IDRiD_{}_EX.tif",
}
# Photo -> top and left of a window that has both lesions. No stride divides its size.
WINDOWS = {"01": (480, 544), "02": (192, 640), "03": (320, 576), "07": (352, 192)}
SIZE = (91, 117)

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA}: not there; IDRiD at a quarter of its size"),
    pytest.mark.usefixtures("one_thread"),
]

Blobs = dict[str, Tensor]


def read(photo: str) -> Blobs:
    """The blobs that the net's three data layers would read, of a whole photo."""
    with Image.open(DATA / PHOTO.format(photo)) as file:
        bgr = np.asarray(file.convert("RGB"), np.float32)[..., ::-1]
    mean = read_net(FOLDER / "train.prototxt").message.layer[0].transform_param.mean_value
    blobs = {"data": torch.from_numpy(bgr - np.asarray(mean, np.float32)).permute(2, 0, 1)[None].contiguous()}
    for label, path in MASKS.items():
        with Image.open(DATA / path.format(photo)) as file:
            blobs[label] = torch.from_numpy((np.asarray(file) > 0).astype(np.float32))[None, None]
    return blobs


def crop(blobs: Blobs, top: int, left: int) -> Blobs:
    rows, columns = slice(top, top + SIZE[0]), slice(left, left + SIZE[1])
    return {name: blob[..., rows, columns].contiguous() for name, blob in blobs.items()}


def top_k(logits: np.ndarray, label: np.ndarray) -> Run:
    return run("SigmoidTopKCrossEntropyLoss", [logits, label], {"topk_loss_param": {"ratio": 0.14}})


def euclidean(p: np.ndarray, label: np.ndarray) -> Run:
    """Caffe's formula of one image."""
    difference = p.astype(np.float64) - label
    return Run(np.square(difference).sum() / 2, difference)


def train(
    stage: str,
    batches: Sequence[Blobs],
    steps: int,
    reference: Callable[[np.ndarray, np.ndarray], Run],
    *,
    weights: Path | None = None,
) -> tuple[caffe.CaffeNet, list[float]]:
    """The net after some steps, and the total loss of each; all losses and their gradients are compared on the way."""
    net = caffe.load_net(FOLDER / f"train{stage}.prototxt", weights)
    solver = caffe.load_solver(FOLDER / f"solver{stage}.prototxt", net)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name in LOSSES:
        net.layer(name).register_forward_hook(lambda _, bottoms, __, name=name: seen.update({name: bottoms}))

    def passed(blobs: Blobs) -> Tensor:
        outputs = net(blobs)
        total = 0.0
        for name in LOSSES:
            bottom, label = seen[name]
            assert label is blobs["label_ma" if "_ma" in name else "label_he"]
            (gradient,) = torch.autograd.grad(outputs[name], bottom, retain_graph=True)
            expected = reference(bottom.detach().numpy(), label.numpy())
            assert_close(outputs[name].detach(), torch.tensor(expected.loss), torch.float32)
            assert_close(gradient, torch.from_numpy(expected.gradient), torch.float32)
            total += net.loss_weights[name] * expected.loss
        loss = net.loss(outputs)
        assert_close(loss.detach(), torch.tensor(total), torch.float32)
        return loss

    losses = [solver.step(partial(passed, batches[step % len(batches)])).item() for step in range(steps)]
    assert solver.iteration == steps
    return net, losses


def test_both_stages(tmp_path: Path) -> None:
    batches = [crop(read(photo), *corner) for photo, corner in WINDOWS.items()]
    assert all(blobs[label].any() for blobs in batches for label in MASKS)

    net, losses = train("", batches, 20, top_k)
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])

    weights = tmp_path / "first.caffemodel"
    caffe.save_weights(net, weights)
    _, losses = train("_stage2", batches, 8, euclidean, weights=weights)
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
