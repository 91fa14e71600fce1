"""The layers that are carried over; importing this registers them."""

from . import activations, affine, combine, convolution, dense, losses, normalization, pooling, rare, shapes

__all__ = [
    "activations",
    "affine",
    "combine",
    "convolution",
    "dense",
    "losses",
    "normalization",
    "pooling",
    "rare",
    "shapes",
]
