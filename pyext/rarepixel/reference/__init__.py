"""The losses in plain PyTorch: readable, differentiable by autograd, on any device.

Each function takes what its namesake in :mod:`rarepixel.functional` takes. They are the oracle of the tests, the
baseline of the benchmarks, and what runs where there are no kernels.
"""

from .philox import philox_uniform
from .random_drop import random_drop

__all__ = ["philox_uniform", "random_drop"]
