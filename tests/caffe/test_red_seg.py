"""Red-Seg as the paper's table describes it, from prototxt to training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("google.protobuf")

from rarepixel import caffe, functional

FOLDER = Path(__file__).parents[2] / "examples/caffe/red_seg"
VGG = (
    *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
    *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3"),
)
LOSSES = ("loss_ma2", "loss_ma3", "loss_ma4", "loss_ma", "loss_he3", "loss_he4", "loss_he5", "loss_he")


def batch(height: int, width: int) -> dict[str, Tensor]:
    """An image whose bright spots are the lesions."""
    labels = {name: torch.zeros(1, 1, height, width) for name in ("label_ma", "label_he")}
    labels["label_ma"][..., 8:11, 9:12] = 1
    labels["label_he"][..., 20:30, 25:40] = 1
    spots = labels["label_ma"] + labels["label_he"]
    return {"data": 10 * torch.randn(1, 3, height, width) + 60 * spots, **labels}


def test_the_architecture() -> None:
    net = caffe.load_net(FOLDER / "train.prototxt", inputs={"data": (1, 3, 712, 1072)})
    rows = {row.name: row for row in net.table()}
    convolutions = [row.name for row in rows.values() if row.type == "Convolution" and row.name.startswith("conv")]
    assert tuple(convolutions) == VGG
    assert sum(rows[name].parameters for name in VGG) == 14_714_688  # VGG-16 without its fully connected layers
    assert tuple(net.loss_weights) == LOSSES
    assert set(net.outputs) == set(LOSSES)
    for lesion, levels in (("ma", "234"), ("he", "345")):
        assert rows[f"join_{lesion}"].bottoms == tuple(f"crop_{lesion}{level}" for level in levels)
        assert rows[f"fuse_{lesion}"].shapes == ((1, 1, 712, 1072),)
    assert rows["up_he5"].shapes == ((1, 1, 16 * (45 + 1), 16 * (67 + 1)),)
    assert [name for name, (lr_mult, _) in net.caffe_multipliers.items() if lr_mult == 0] == [
        f"up_{side}.weight" for side in ("ma2", "ma3", "ma4", "he3", "he4", "he5")
    ]


def test_upsampling_keeps_places() -> None:
    """A side output lies on the image that it was computed from: cropped where bilinear interpolation puts it."""
    net = caffe.load_net(FOLDER / "train.prototxt")
    ramp = torch.arange(16.0).reshape(1, 1, 1, 16).expand(1, 1, 16, 16)
    for level, stride in ((2, 2), (3, 4), (4, 8)):
        pooled = torch.nn.functional.avg_pool2d(ramp, stride)
        up = net.layer(f"crop_ma{level}")(net.layer(f"up_ma{level}")(pooled), ramp)
        inside = slice(stride // 2, 16 - stride // 2)
        torch.testing.assert_close(up[..., inside, inside], ramp[..., inside, inside])


def test_losses_are_the_papers() -> None:
    first = caffe.load_net(FOLDER / "train.prototxt", phase="test")
    second = caffe.load_net(FOLDER / "train_stage2.prototxt", phase="test")
    second.load_state_dict(
        {name: blob for name, blob in first.state_dict().items() if "criterion" not in name}, strict=True
    )
    blobs = batch(37, 53)
    logits: dict[str, Tensor] = {}
    for name in LOSSES:
        bottom = next(node.bottoms[0] for node in first.nodes if node.name == name)
        first.layer(bottom).register_forward_hook(lambda _, __, top, name=name: logits.update({name: top}))
    outputs, squared = first(blobs), second(blobs)
    for name in LOSSES:
        label = blobs["label_ma" if "_ma" in name else "label_he"]
        k = float(torch.tensor(0.14))
        expected = functional.top_k(logits[name], label, k=k, balance="image", reduction="sum")
        torch.testing.assert_close(outputs[name], expected)
        expected = functional.squared_error(logits[name], label, balance="image", reduction="sum")
        torch.testing.assert_close(2 * squared[name], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.loss(outputs), torch.stack(list(outputs.values())).sum())
    torch.testing.assert_close(second.loss(squared), 2 * torch.stack(list(squared.values())).sum())


@pytest.mark.parametrize(("stage", "rate"), [("", "3e-8"), ("_stage2", "1e-7")])
def test_a_few_steps(stage: str, rate: str, tmp_path: Path) -> None:
    net = caffe.load_net(FOLDER / f"train{stage}.prototxt")
    assert (FOLDER / f"solver{stage}.prototxt").read_text().count(f'net: "train{stage}.prototxt"') == 1
    path = tmp_path / "solver.prototxt"  # of few pixels the paper's rate learns nothing in a few steps
    path.write_text((FOLDER / f"solver{stage}.prototxt").read_text().replace("base_lr: ", f"base_lr: {rate} #"))
    solver = caffe.load_solver(path, net)
    before = {name: blob.detach().clone() for name, blob in net.named_parameters()}
    blobs = batch(32, 48)
    losses = [solver.step(blobs).item() for _ in range(4)]
    assert losses[-1] < 0.9 * losses[0]
    for name, blob in net.named_parameters():
        assert torch.equal(blob, before[name]) == name.startswith("up_"), name


def test_solvers_are_the_papers() -> None:
    net = torch.nn.Linear(1, 1)
    for name, rate, iterations in (("solver", 1e-8, 97_200), ("solver_stage2", 1e-9, 6_480)):
        solver = caffe.load_solver(FOLDER / f"{name}.prototxt", net)
        assert solver.max_iter == iterations
        (group,) = solver.optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (rate, 0.0005)
