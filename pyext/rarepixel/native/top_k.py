"""The compiled Top-k cross-entropy."""

from ..stats import HardNegativeStats
from .region_operator import RegionOperator

_operator = RegionOperator("top_k", HardNegativeStats)
encode, compute = _operator.encode, _operator.compute
