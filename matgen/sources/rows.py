"""What every reader yields: one row per structure in, good or bad, and the limits that decide which it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matgen.crystal.structure import Structure
    from matgen.errors import StructureError

OK = "ok"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One structure as a reader found it: a structure, or the error that says why there is none.

    Args:
        id: as the input names it; not yet unique.
        structure: None where it cannot be read.
        error: None where it can.
        properties: scalars that came with it.
        split: "train", "val", "test" or None where the input does not say.
    """

    id: str
    structure: Structure | None
    error: StructureError | None
    properties: Mapping[str, object] = field(default_factory=dict)
    split: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a source.

    Args:
        id: unique in the source, the same on every read.
        structure: None unless `status` is "ok".
        status: "ok", or the failure's short word.
        reason: the failure with its values; empty where there is none.
        properties: scalars that came with the structure.
        split: "train", "val", "test" or None.
    """

    id: str
    structure: Structure | None
    status: str
    reason: str
    properties: Mapping[str, object] = field(default_factory=dict)
    split: str | None = None


class Segment(Protocol):
    """A file, folder, archive or built-in table that holds `num_rows` structures in a fixed order. Cheap to pickle."""

    @property
    def num_rows(self) -> int:
        """How many rows `read` can yield."""

    def ids(self) -> Iterator[str]:
        """The id of every row in order, without parsing a structure."""

    def read(self, start: int, stop: int) -> Iterator[RawRow]:
        """Rows start to stop - 1, in order."""
