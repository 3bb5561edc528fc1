"""Families of metrics that are plain numbers until they are read, so that counting costs next to nothing.

A family holds a cell for each combination of label values and is a collector of prometheus_client, which
asks for the samples when somebody reads the exposition. Names, help, labels, buckets and text are those
that the library's own `Counter`, `Gauge`, `Summary` and `Histogram` would give.

Cells belong to one thread, the event loop's: adding to one is a read and a write, and two threads would lose
counts. Any thread may collect: it raises nothing, and at worst sees a duration's bucket before its sum.

What does not belong here: which families there are (`app.observability.metrics`, `.http_metrics`).
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import inf
from typing import Final, Generic, TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

OTHER: Final = "other"
"""Stands for every label value past the cap."""
DISTINCT_VALUES: Final = 500
"""Distinct values of one label before the rest becomes `other`."""

LabelValues = tuple[str, ...]


class Number:
    """The cell of a counter or gauge: add to its value, or set it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Amounts:
    """The cell of a summary: how many amounts there were, and their sum."""

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        """Count one amount."""
        self.count += 1
        self.sum += amount


class Buckets:
    """The cell of a histogram. `bounds` are ascending, inclusive and end with infinity."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * len(bounds)
        """Amounts in each bucket alone, not in those below."""
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        """Count one amount."""
        self.counts[bisect_left(self._bounds, amount)] += 1
        self.sum += amount


C = TypeVar("C")
"""A cell: `Number`, `Amounts` or `Buckets`."""


class Cells(dict[LabelValues, C], Generic[C]):
    """The cells of a family; one that is not there yet is made when it is asked for.

    Of each label the first `limit` values get cells of their own, every later one shares those of `OTHER`.
    """

    def __init__(self, make: Callable[[], C], labels: int, limit: int) -> None:
        super().__init__()
        self._make = make
        self._limit = limit
        self._distinct: tuple[set[str], ...] = tuple(set() for _ in range(labels))

    def __missing__(self, values: LabelValues) -> C:
        capped = tuple(self._cap(seen, value) for seen, value in zip(self._distinct, values, strict=True))
        cell = self.get(capped)
        if cell is None:
            cell = self[capped] = self._make()
        return cell

    def _cap(self, seen: set[str], value: str) -> str:
        if value in seen:
            return value
        if len(seen) >= self._limit:
            return OTHER
        seen.add(value)
        return value


class Family(Collector, Generic[C]):
    """A metric by name. Count with `family.cells[label values].…`, in the order of `labels`."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], make: Callable[[], C], limit: int
    ) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self.cells = Cells[C](make, len(self._labels), limit)
        if not labels:
            # Like the library: what has no labels is exposed from the beginning, as zero.
            self.cells[()] = make()

    @property
    def only(self) -> C:
        """The one cell of a family without labels; ValueError with labels."""
        return self.cells[()]

    def collect(self) -> Iterable[Metric]:
        """The samples of now, as prometheus_client wants them."""
        # The list is made in one step, so that a cell added meanwhile disturbs no other thread.
        return [self._samples(list(self.cells.items()))]

    def describe(self) -> Iterable[Metric]:
        """What the registry learns the names from, to refuse a second family of that name."""
        return [self._samples([])]

    @abstractmethod
    def _samples(self, cells: Sequence[tuple[LabelValues, C]]) -> Metric: ...


class CounterFamily(Family[Number]):
    """Goes up only. `name` may end with `_total`; the exposition always does."""

    def __init__(self, name: str, text: str, *labels: str, limit: int = DISTINCT_VALUES) -> None:
        super().__init__(name, text, labels, Number, limit)

    def _samples(self, cells: Sequence[tuple[LabelValues, Number]]) -> Metric:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, cell in cells:
            family.add_metric(values, cell.value)
        return family


class GaugeFamily(Family[Number]):
    """Goes up and down."""

    def __init__(self, name: str, text: str, *labels: str, limit: int = DISTINCT_VALUES) -> None:
        super().__init__(name, text, labels, Number, limit)

    def _samples(self, cells: Sequence[tuple[LabelValues, Number]]) -> Metric:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for values, cell in cells:
            family.add_metric(values, cell.value)
        return family


class SummaryFamily(Family[Amounts]):
    """A number of amounts and their sum."""

    def __init__(self, name: str, text: str, *labels: str, limit: int = DISTINCT_VALUES) -> None:
        super().__init__(name, text, labels, Amounts, limit)

    def _samples(self, cells: Sequence[tuple[LabelValues, Amounts]]) -> Metric:
        family = SummaryMetricFamily(self._name, self._text, labels=self._labels)
        for values, cell in cells:
            family.add_metric(values, cell.count, cell.sum)
        return family


class HistogramFamily(Family[Buckets]):
    """Amounts by size: `buckets` are ascending upper bounds above zero; infinity need not be given."""

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], *labels: str, limit: int = DISTINCT_VALUES
    ) -> None:
        bounds = (*(float(bound) for bound in buckets if bound != inf), inf)
        self._bounds: tuple[str, ...] = tuple(map(floatToGoString, bounds))
        super().__init__(name, text, labels, lambda: Buckets(bounds), limit)

    def _samples(self, cells: Sequence[tuple[LabelValues, Buckets]]) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, cell in cells:
            below = accumulate(list(cell.counts))
            family.add_metric(values, list(zip(self._bounds, below, strict=True)), cell.sum)
        return family
