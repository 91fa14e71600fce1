"""What the random-drop loss is on average over all its random numbers, exactly."""

from __future__ import annotations

import math

import numpy as np

from ._population import Counts, Population, Values

_NODES = 32


def drop_probability(schedule: str, logits: Values) -> Values:
    """d(p) of a negative, p = sigmoid(logit): 1 - p, (1 - p)^2, or max(0, 1 + log10(1 - p))."""
    loss = np.logaddexp(0, logits)  # -log(1 - p)
    if schedule == "log":
        return np.asarray(np.maximum(0, 1 - loss / math.log(10)))
    return np.asarray(np.exp(-loss if schedule == "linear" else -2 * loss))


class ExpectedDrop:
    r"""Means over the drops of a population.

    With K kept negatives, each of the N+ positives weighs 1 / (2 N+) in the loss and each kept negative 1 / (2 K), K
    counting itself. A negative is kept with the probability q = 1 - d, apart from all others, so that

    .. math::
        E\left[\frac{1}{1 + K'}\right] = \int_0^1 E[t^{K'}]\, dt = \int_0^1 \prod_i (1 - q_i s)\, ds

    for the K' others that are kept. The integral is taken by Gauss and Legendre's rule over the part where the product
    is not below e^-46.

    Args:
        schedule: of the loss.
        population: the pixels.
    """

    def __init__(self, schedule: str, population: Population) -> None:
        self.schedule, self.population = schedule, population
        self.kept = 1 - drop_probability(schedule, population.values[0])
        self.losses = np.logaddexp(0, population.values[0])

    def profile(self, grid: Values) -> tuple[Values, Values]:
        """Values and gradients of a probe of either class, times the pixels, (2, n) each."""
        population = self.population
        half = population.pixels / 2
        q, loss = 1 - drop_probability(self.schedule, grid), np.logaddexp(0, grid)
        nodes, product, nothing = self._product(population.rest(0)[0])
        of_others = (population.rest(0)[0] * self.kept * self.losses) @ (1 / (1 - np.outer(self.kept, nodes[0])))
        whole, first = product @ of_others, (product * nodes[0]) @ of_others
        mean_positive = float(population.counts[1] @ np.logaddexp(0, -population.values[1])) / population.sizes[1]
        # The positives' half is worth nothing when all negatives are dropped.
        of_negatives = whole - q * first + loss * q * product.sum() + mean_positive * (1 - nothing * (1 - q))
        _, _, nothing = self._product(population.counts[0])
        of_positives = (1 - nothing) * np.logaddexp(0, -grid) / population.sizes[1]
        slopes = (
            q * np.exp(-np.logaddexp(0, -grid)) * product.sum(),
            -(1 - nothing) * np.exp(-loss) / population.sizes[1],
        )
        return half * np.stack([of_negatives, of_positives]), half * np.stack(slopes)

    def gradients(self) -> tuple[Values, Values]:
        """Of the population's own pixels, at each of its logits, times the pixels."""
        population = self.population
        nodes, product, nothing = self._product(population.counts[0])
        # A pixel's own factor is not among those of the others.
        of_others = (1 / (1 - np.outer(self.kept, nodes[0]))) @ product
        half = population.pixels / 2
        negatives = half * self.kept * np.exp(-np.logaddexp(0, -population.values[0])) * of_others
        positives = -half * (1 - nothing) * np.exp(-np.logaddexp(0, population.values[1])) / population.sizes[1]
        return negatives, positives

    @property
    def kept_share(self) -> float:
        """Of the negatives."""
        return float(self.population.counts[0] @ self.kept) / self.population.sizes[0]

    def _product(self, counts: Counts) -> tuple[Values, Values, float]:
        """Nodes s, and prod(1 - q s) there times their weights; and the product at 1: that none is kept."""
        end = min(1.0, 46 / max(float(counts @ self.kept), 1e-9))
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        nodes, weights = end / 2 * (nodes + 1), end / 2 * weights
        product = weights * np.exp(counts @ np.log1p(-np.outer(self.kept, nodes)))
        certain = bool((counts[self.kept >= 1] > 0).any())
        sure = np.where(self.kept < 1, self.kept, 0.0)
        return nodes[None], product, 0.0 if certain else float(np.exp(counts @ np.log1p(-sure)))
