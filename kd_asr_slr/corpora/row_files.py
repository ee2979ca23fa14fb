"""Rows on disk instead of in memory: Arrow files of this process, which `datasets` maps and never loads as a whole.

What a map over such rows makes lies beside them (that is how `datasets` does it).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features

from kd_asr_slr.corpora.row_folder import rows_folder
from kd_asr_slr.errors import UserError

BATCH = 1000  # rows that are in memory at once


class RowFile:
    """Rows that are written batch by batch, and read back as a dataset over the file.

    Args:
        features: the columns and their types.

    Raises:
        UserError: where the disk does not take them.

    Example:
        >>> file = RowFile(Features({"id": Value("string")}))
        >>> file.write({"id": ["a", "b"]})
        >>> file.close()["id"][:]
        ['a', 'b']
    """

    def __init__(self, features: Features) -> None:
        self._schema = features.arrow_schema
        try:
            handle, path = tempfile.mkstemp(suffix=".arrow", dir=rows_folder())
        except OSError as error:
            raise _refused(error) from error
        self._path = Path(path)
        self._stream = os.fdopen(handle, "wb")
        self._writer = pa.ipc.new_stream(self._stream, self._schema)

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows.

        Args:
            columns: values of every column.
        """
        values = {name: columns[name] for name in self._schema.names}
        try:
            self._writer.write_batch(pa.RecordBatch.from_pydict(values, self._schema))
        except OSError as error:
            raise _refused(error) from error

    def close(self) -> Dataset:
        """All rows; none can follow."""
        try:
            self._writer.close()
            self._stream.close()
        except OSError as error:
            raise _refused(error) from error
        return Dataset.from_file(str(self._path))

    def discard(self) -> None:
        """Remove what has been written."""
        self._stream.close()
        self._path.unlink(missing_ok=True)


def _refused(error: OSError) -> UserError:
    return UserError(
        f"the rows of the corpus cannot be kept in {tempfile.gettempdir()} ({error.strerror})",
        expected="room for a file about as large as its manifest",
        fix="set TMPDIR to a folder that has it",
    )


def values_of(rows: Dataset, column: str) -> Iterator[Any]:
    """The values of a column, a batch of them in memory at once."""
    values = rows[column]
    for start in range(0, len(values), BATCH):
        yield from values[start : start + BATCH]


def rows_where(rows: Dataset, column: str, wanted: Sequence[Any] | set[Any], among: bool = True) -> Dataset:
    """The rows whose value is among some; or, with `among=False`, all others.

    Example:
        >>> of_two = rows_where(corpus["train"], "speaker", ["fsdd/theo", "fsdd/jackson"])
    """
    values = rows.with_format("arrow")[column][:]
    among_them = pc.SetLookupOptions(value_set=pa.array(list(wanted), values.type))
    found = pc.call_function("is_in", [values], among_them)
    return rows.select(np.flatnonzero(np.asarray(found) == among))


def with_value(rows: Dataset, column: str, value: Any) -> Dataset:
    """The same rows in the same columns, one of which has the same value in all of them."""

    def fill(batch: pa.Table) -> pa.Table:
        place = batch.column_names.index(column)
        return batch.set_column(
            place, batch.schema.field(place), pa.array([value] * len(batch), batch.schema[place].type)
        )

    filled = rows.with_format("arrow").map(fill, batched=True, features=rows.features, load_from_cache_file=False)
    return filled.with_format(None)
