"""Rows of float32 numbers in blocks, so that a row more never copies the rows there are.

Only the last block grows, by doubling, until it has its full height; then another one begins. Slots
count through the blocks. Imports numpy: see `vector_matrix`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.float32]
"""Shape (rows, dimensions), or (dimensions,) for a single one."""

BLOCK_ROWS: Final = 8192


class RowBlocks:
    """Growable storage of rows of one length; the owner knows how many slots are in use."""

    __slots__ = ("_blocks", "_dimensions")

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._blocks: list[Rows] = []

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(block.nbytes for block in self._blocks)

    @property
    def capacity(self) -> int:
        """Slots there is room for."""
        return sum(len(block) for block in self._blocks)

    def reserve(self, count: int) -> None:
        """Make room for `count` slots in all."""
        while (missing := count - self.capacity) > 0:
            last = self._blocks[-1] if self._blocks else None
            if last is None or len(last) == BLOCK_ROWS:
                self._blocks.append(np.empty((min(missing, BLOCK_ROWS), self._dimensions), dtype=np.float32))
                continue
            height = min(max(2 * len(last), len(last) + missing), BLOCK_ROWS)
            grown: Rows = np.empty((height, self._dimensions), dtype=np.float32)
            grown[: len(last)] = last
            self._blocks[-1] = grown

    def set(self, slot: int, row: Rows) -> None:
        """Put a row into a slot."""
        self._blocks[slot // BLOCK_ROWS][slot % BLOCK_ROWS] = row

    def move(self, source: int, target: int) -> None:
        """Copy a slot over another one."""
        self.set(target, self._blocks[source // BLOCK_ROWS][source % BLOCK_ROWS])

    def take(self, slots: Sequence[int]) -> Rows:
        """A copy of the rows of some slots, one or more."""
        return np.stack([self._blocks[slot // BLOCK_ROWS][slot % BLOCK_ROWS] for slot in slots])

    def dot(self, vector: Rows, count: int) -> Rows:
        """The product of the first `count` rows with a vector, shape (count,).

        Reading memory is what it costs, so one core is enough. BLAS would take all of them, and its
        threads wait for each other: on a busy machine one product in fifty then took 100 ms instead of 5.
        """
        products: Rows = np.empty(count, dtype=np.float32)
        for start in range(0, count, BLOCK_ROWS):
            block = self._blocks[start // BLOCK_ROWS]
            stop = min(start + BLOCK_ROWS, count)
            np.einsum("ij,j->i", block[: stop - start], vector, out=products[start:stop])
        return products
