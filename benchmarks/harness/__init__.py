"""What all benchmarks share. A loss's script declares a :class:`Benchmark`; the rest happens here."""

from .declaration import Benchmark, Contestant, Scene, Variant, dtype_variants, field_of_view, masked_bce

__all__ = ["Benchmark", "Contestant", "Scene", "Variant", "dtype_variants", "field_of_view", "masked_bce"]
