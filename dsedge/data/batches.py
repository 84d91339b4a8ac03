"""Samples in batches that fit a model: one pass after another over a source, with fixed memory.

A source gives samples as they come; `fit` makes them items; here they are grouped, padded and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from typing import Any

import numpy as np

from dsedge.data.fit import Feeds, Item, batch_axis, fit, fixed_batch
from dsedge.errors import LoadError
from dsedge.model import TensorSpec


@dataclass(frozen=True)
class Source:
    """Where samples come from.

    Attributes:
        name: for people and for the manifest.
        read: starts a pass; each element is (arrays by input name, label or None).
        count: how many elements a pass has, None when that is not known in advance.
        digest: computes the sha256 of the source in hex; None when it follows from the samples only.
        notes: what a reader must know of it.
    """

    name: str
    read: Callable[[], Iterator[tuple[Mapping[str, Any], Any]]]
    count: int | None = None
    digest: Callable[[], str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """What one inference takes.

    Attributes:
        feeds: arrays by input name, in the shape and dtype of the model's inputs.
        count: samples in it that count.
        labels: [count, ...], or None when the data is not labelled.
        padding: copies of the last sample behind them, which fill a fixed batch and do not count.
    """

    feeds: Feeds
    count: int
    labels: np.ndarray | None
    padding: int = 0


class Data:
    """Samples that fit a model. Use `open_data` to get one.

    Attributes:
        source: where they come from, for people and for the manifest.
        samples: how many there are; None for an iterable, whose end is not known in advance.
        notes: what a reader must know of the source.
    """

    def __init__(self, source: Source, inputs: Sequence[TensorSpec], *, labelled: bool) -> None:
        self.source, self.notes = source.name, source.notes
        self.samples: int | None = None
        self._source, self._inputs, self._labelled = source, inputs, labelled
        self._head: list[Item] = []  # the first items of the source, read ahead
        self._rest: Iterator[Item] | None = None  # what comes behind them, when a pass was started and not given out
        self._head_is_all = False
        self._digest: str | None = None
        if source.count is None:
            empty = not self._read_ahead(1)
        else:
            first = list(self._items(islice(source.read(), 1)))
            self.samples, empty = source.count * sum(item.count for item in first), not first
        if empty:
            raise LoadError("DS123", "there are no samples", where=source.name)

    def batches(self, max_batch: int = 1) -> Iterator[Batch]:
        """One pass over all samples.

        Args:
            max_batch: samples of a batch at most, when the model's batch axis is dynamic and the samples come one by
                one. A fixed batch axis sets the size itself; whole inputs stay as they are.

        Raises:
            LoadError: DS121 to DS128 when a sample cannot be read or does not fit; DS121 for a second pass over a
                source that can be read only once.
        """
        if self._rest is None:
            items = self._items(self._source.read())
        else:
            items, self._rest = chain(list(self._head), self._rest), None
        return self._group(self._hashing(items), max_batch)

    def head(self, n: int) -> list[Batch]:
        """The first `n` samples, one by one; fewer when there are not so many. A later pass has them again."""
        return list(self._group(self._read_ahead(n), 1))

    def sha256(self) -> str | None:
        """What identifies the data, in hex: of the file's bytes, of the images' names and bytes, or of the samples.

        It is None for a source of which only the samples are known, until a pass came to its end.
        """
        if self._digest is None and self._source.digest:
            self._digest = self._source.digest()
        return self._digest

    def _items(self, raw: Iterable[tuple[Mapping[str, Any], Any]]) -> Iterator[Item]:
        for index, (arrays, label) in enumerate(raw):
            if self._labelled and label is None:
                raise LoadError("DS124", "the sample has no label", where=f"{self.source}, sample {index}")
            yield from fit(arrays, label, self._inputs, f"{self.source}, sample {index}")

    def _read_ahead(self, n: int) -> list[Item]:
        while sum(item.count for item in self._head) < n and not self._head_is_all:
            if self._rest is None:
                self._rest = islice(self._items(self._source.read()), len(self._head), None)
            item = next(self._rest, None)
            if item is None:
                self._head_is_all = True
            else:
                self._head.append(item)
        before = accumulate((item.count for item in self._head), initial=0)
        return [item for item, count in zip(self._head, before, strict=False) if count < n]

    def _group(self, items: Iterable[Item], max_batch: int) -> Iterator[Batch]:
        fixed = fixed_batch(self._inputs)
        group: list[Item] = []
        for item in items:
            if group and (not item.single or item.shapes != group[0].shapes):
                yield self._join(group, fixed)
                group = []
            if not item.single:
                yield Batch(item.feeds, item.count, item.labels)
                continue
            group.append(item)
            if len(group) == (fixed or max_batch):
                yield self._join(group, fixed)
                group = []
        if group:
            yield self._join(group, fixed)

    def _join(self, group: list[Item], fixed: int | None) -> Batch:
        padding = (fixed or len(group)) - len(group)
        parts = group + group[-1:] * padding
        feeds = {
            spec.name: np.concatenate([item.feeds[spec.name] for item in parts], axis=batch_axis(spec))
            for spec in self._inputs
        }
        labels = [item.labels for item in group if item.labels is not None]
        return Batch(feeds, len(group), np.concatenate(labels) if labels else None, padding)

    def _hashing(self, items: Iterable[Item]) -> Iterator[Item]:
        total = hashlib.sha256()
        for item in items:
            if self._source.digest is None:
                for name, array in [*item.feeds.items(), ("labels", item.labels)]:
                    if array is not None:
                        total.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
            yield item
        if self._source.digest is None:
            self._digest = total.hexdigest()
