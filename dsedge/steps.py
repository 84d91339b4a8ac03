"""The record of a compilation: which step took how long, and the progress shown meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dsedge.bundle import PassInfo

Progress = Callable[[str, int, int | None], None]
"""Called with the step's name, how much of it is done, and how much there is (None: not known)."""


class Steps:
    """Times the steps of one compilation and tells a listener about them.

    Attributes:
        records: one entry a step, in order; a step that ran several times is added up.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress or (lambda step, done, total: None)
        self._prefix = ""
        self.records: list[PassInfo] = []

    def of(self, runtime: str) -> Steps:
        """The same record, in which the names of steps say which runtime they are for."""
        part = Steps(self._progress)
        part.records, part._prefix = self.records, f"{runtime}: "
        return part

    @contextmanager
    def __call__(self, name: str, *, changed: bool = False) -> Iterator[list[str]]:
        """Time a block; strings appended to the yielded list become the step's notes."""
        self.tell(name, 0)
        notes: list[str] = []
        start = time.perf_counter()
        yield notes
        self.add(
            PassInfo(
                name=self._prefix + name, seconds=round(time.perf_counter() - start, 4), changed=changed, notes=notes
            )
        )

    def tell(self, name: str, done: int, total: int | None = None) -> None:
        """Report progress inside of a step."""
        self._progress(self._prefix + name, done, total)

    def add(self, record: PassInfo) -> None:
        """Take in a record."""
        for i, old in enumerate(self.records):
            if old.name == record.name:
                self.records[i] = PassInfo(
                    name=old.name,
                    seconds=round(old.seconds + record.seconds, 4),
                    changed=old.changed or record.changed,
                    notes=[*old.notes, *(n for n in record.notes if n not in old.notes)],
                )
                return
        self.records.append(record)
