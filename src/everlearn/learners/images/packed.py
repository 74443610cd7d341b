"""Sums of outer products of rows in half the memory: rectangular full packed, worked on by blocked BLAS.

The lower triangle of a symmetric matrix lies in ``m (m + 1) / 2`` numbers as two triangles that fill a
rectangle, so that updates and Cholesky factors take matrix products (Gustavson et al. 2010, "Rectangular full
packed format for Cholesky's algorithm").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from everlearn.types import FloatArray


class Gram:
    """``sum_i w phi_i phi_i^T`` of rows phi (n, m), in float64.

    >>> gram = Gram(3)
    >>> gram.add(np.eye(3)[:2] * 2.0)
    >>> gram.diagonal()
    array([4., 4., 0.])
    """

    def __init__(self, size: int, values: FloatArray | None = None) -> None:
        self.size = size
        self.values = np.zeros(size * (size + 1) // 2) if values is None else values

    def copy(self) -> Gram:
        """Another with the same sums."""
        return Gram(self.size, self.values.copy())

    def add(self, rows: FloatArray, weight: float = 1.0) -> None:
        """Add the outer products of rows (n, m), each ``weight`` times."""
        if len(rows):
            across = np.ascontiguousarray(rows).T
            self.values = lapack.dsfrk(
                self.size, len(rows), weight, across, 1.0, self.values, uplo="L", overwrite_c=1
            )

    def diagonal(self) -> FloatArray:
        """The diagonal (m,)."""
        found: FloatArray = self.values[self._places()]
        return found

    def raise_diagonal(self, by: FloatArray) -> None:
        """Add to the diagonal."""
        self.values[self._places()] += by

    def solve(self, right: FloatArray) -> FloatArray:
        """The solution (m, k) of ``self @ x = right`` by Cholesky factors, which take the place of the sums.

        Raises ValueError if the matrix is not positive definite.
        """
        factor, info = lapack.dpftrf(self.size, self.values, uplo="L", overwrite_a=1)
        if info:
            raise ValueError(f"not positive definite at column {info}")
        found, _ = lapack.dpftrs(self.size, factor, np.asfortranarray(right), uplo="L")
        solution: FloatArray = np.ascontiguousarray(found)
        return solution

    def _places(self) -> NDArray[np.int64]:
        """Where the diagonal lies: see figure 5 of the paper, for even and for odd sizes."""
        m, odd = self.size, self.size % 2
        half = (m + 1) // 2
        height = m + 1 - odd
        upper, lower = np.arange(half), np.arange(m - half)
        first = upper + (1 - odd) + upper * height
        second = lower + (lower + odd) * height
        return np.concatenate([first, second])
