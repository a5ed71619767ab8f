"""Columns of per-structure scores: one row per structure drawn, in the order given."""

from collections.abc import Mapping, Sequence

import numpy as np

from matgen.errors import MatgenError

Table = dict[str, np.ndarray]


class EmptyTableError(MatgenError):
    """There is nothing to score: an empty list of structures or an empty table."""


class MissingColumnError(MatgenError):
    """A metric needs a column that the table does not have."""


def num_rows(table: Mapping[str, np.ndarray]) -> int:
    """Number of rows of a table.

    Args:
        table: columns of equal length.

    Raises:
        EmptyTableError: the table has no columns or no rows.
        ValueError: the columns differ in length.
    """
    lengths = {name: len(column) for name, column in table.items()}
    if not lengths or max(lengths.values()) == 0:
        raise EmptyTableError("the table of scores is empty: no structure was given")
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns of different length: {lengths}")
    return next(iter(lengths.values()))


def concat_tables(tables: Sequence[Table]) -> Table:
    """Join the tables of several shards, in their order.

    Args:
        tables: at least one; all with the same columns.

    Raises:
        EmptyTableError: no table was given.
        ValueError: the tables have different columns.
    """
    if not tables:
        raise EmptyTableError("no table of scores was given")
    names = set(tables[0])
    for i, table in enumerate(tables):
        if set(table) != names:
            raise ValueError(f"shard {i} has other columns than shard 0: {sorted(set(table) ^ names)}")
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def take_rows(table: Table, rows: np.ndarray) -> Table:
    """Rows of a table by index or by mask."""
    return {name: column[rows] for name, column in table.items()}


def column(table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One column of a table.

    Raises:
        MissingColumnError: the table has no such column.
    """
    if name not in table:
        raise MissingColumnError(f"the table of scores has no column {name!r}; it has {', '.join(sorted(table))}")
    return table[name]
