"""The compiled squared error."""

from ..stats import ErrorStats
from .region_operator import RegionOperator

_operator = RegionOperator("squared_error", ErrorStats)
encode, compute = _operator.encode, _operator.compute
