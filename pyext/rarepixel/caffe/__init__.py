"""Out of Caffe: prototxt, solver and caffemodel files become Modules, optimizers and weights.

.. code-block:: python

    net = caffe.load_net("train.prototxt", weights="vgg16.caffemodel", phase="train")
    solver = caffe.load_solver("solver.prototxt", net)
    solver.step({"data": image, "label": label})

Needs protobuf and numpy: ``pip install 'rarepixel[caffe]'``.
"""

from ._layer import LayerSpec, register
from ._schema import CaffeError, CaffeWarning
from .converted import load_converted
from .loading import load_net
from .net import CaffeNet, LayerRow, LoadedWeights
from .solver import Solver, load_solver
from .weights import load_weights, save_weights

__all__ = [
    "CaffeError",
    "CaffeNet",
    "CaffeWarning",
    "LayerRow",
    "LayerSpec",
    "LoadedWeights",
    "Solver",
    "load_converted",
    "load_net",
    "load_solver",
    "load_weights",
    "register",
    "save_weights",
]
