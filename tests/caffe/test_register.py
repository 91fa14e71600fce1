"""Registered layers: of any type, of Python, and what they get wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("google.protobuf")

from rarepixel import caffe
from rarepixel.caffe import _layer

from .nets import Make, one_layer


@pytest.fixture
def _register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_layer, "_REGISTER", dict(_layer._REGISTER))


@pytest.mark.usefixtures("_register")
def test_a_layer_of_ones_own(make: Make) -> None:
    @caffe.register("Swish", "Silu")
    class Swish(nn.Module):
        def __init__(self, spec: caffe.LayerSpec) -> None:
            super().__init__()
            self.beta = nn.Parameter(torch.tensor(spec.message.swish_param.beta))

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.beta * x)

        def output_shapes(self, shape: _layer.Shape) -> tuple[_layer.Shape, ...]:
            return (shape,)

    for kind in ("Swish", "Silu"):
        net = make(one_layer(f'type: "{kind}" swish_param {{ beta: 2 }} param {{ lr_mult: 5 }}', (2, 3)))
        x = torch.randn(2, 3)
        torch.testing.assert_close(net(a=x)["y"], x * torch.sigmoid(2 * x))
        assert net.caffe_multipliers == {"layer_.beta": (5.0, 1.0)}
        assert net.table()[-1].shapes == ((2, 3),)


@pytest.mark.usefixtures("_register")
def test_a_python_layer_of_ones_own(make: Make) -> None:
    seen = []

    @caffe.register("TwoWays")
    def two_ways(spec: caffe.LayerSpec) -> nn.Module:
        seen.append((spec.param_str(), spec.bottoms, spec.tops, spec.shapes, spec.phase))

        class TwoWays(nn.Module):
            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                return x, -x

        return TwoWays()

    body = 'type: "Python" python_param { module: "m" layer: "TwoWays" param_str: "{\'void\': 255}" }'
    net = make(one_layer(body, (2, 3), tops='top: "y" top: "z"'))
    assert seen == [({"void": 255}, ("a",), ("y", "z"), ((2, 3),), "train")]
    x = torch.randn(2, 3)
    assert torch.equal(net(a=x)["z"], -x)
    assert net.table()[-1].shapes == (None, None)


@pytest.mark.usefixtures("_register")
def test_a_registered_layer_that_returns_too_much(make: Make) -> None:
    @caffe.register("Twice")
    def twice(spec: caffe.LayerSpec) -> nn.Module:
        assert spec.type == "Twice"
        return Twice()

    net = make(one_layer('type: "Twice"', (2,)))
    with pytest.raises(caffe.CaffeError, match=r"layer 'layer' \(Twice\): expected 1 tops, got 2"):
        net(a=torch.zeros(2))


class Twice(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x, x


def test_register_without_a_name() -> None:
    with pytest.raises(TypeError, match="types: expected names of layer types"):
        caffe.register(Twice)  # type: ignore[arg-type]
