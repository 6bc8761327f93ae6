"""The documents of a version, some columns at a time."""

from dataclasses import dataclass

import pyarrow as pa

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import FormatError
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import read_batches
from mlm_data.stores.folder import Folder

OWN_ID = "id_field"


def place_of(source: object, offset: object) -> str:
    """Where a document is, as examples of near duplicates name the one that stayed.

    >>> place_of("a.txt", 7)
    'a.txt at 7'
    """
    return f"{source} at {offset}"


@dataclass(frozen=True, kw_only=True)
class DocumentsFile:
    """A documents file; it is opened for a column at a time, so that none of it stays in memory."""

    folder: Folder
    name: str
    num_bytes: int
    num_rows: int

    def read(self, *columns: str) -> pa.Table:
        """Some columns, checked; of the optional own ids nulls where the file has none.

        Raises:
            FormatError: if the file is damaged, or lacks a column.
        """
        where = f"{self.folder.location}/{self.name}"
        schema = fmt.documents_schema(has_id_field=True)
        batches = read_batches(self.folder, self.name, self.num_bytes, columns=columns, optional=[OWN_ID])
        given = [name for name in columns if name != OWN_ID]  # of a file without documents
        table = pa.Table.from_batches(batches, None if batches else pa.schema([schema.field(name) for name in given]))
        wanted = table.schema.names
        try:
            table.validate(full=True)
        except pa.ArrowException as error:
            raise FormatError(f"{where}: {str(error).splitlines()[0]}: run premask verify") from error
        for name in wanted:
            if table.schema.field(name).type != schema.field(name).type:
                raise FormatError(f"{where}: column {name} is no {schema.field(name).type}: run premask verify")
            if name != OWN_ID and table[name].null_count:
                raise FormatError(f"{where}: column {name} holds nulls: run premask verify")
        if wanted and table.num_rows != self.num_rows:
            raise FormatError(
                f"{where}: has {table.num_rows} rows, the manifest says {self.num_rows}: run premask verify"
            )
        nulls = pa.chunked_array([pa.nulls(self.num_rows, pa.string())])
        return pa.table({name: table[name] if name in wanted else nulls for name in columns})


def documents_files(dataset: Dataset) -> list[DocumentsFile]:
    """The documents files of a version: a shard each, those of train first."""
    facts = (dataset.files[name].to_pylist() for name in ("kind", "name", "num_bytes", "num_rows"))
    return [
        DocumentsFile(folder=dataset.folder, name=name, num_bytes=num_bytes, num_rows=num_rows)
        for kind, name, num_bytes, num_rows in zip(*facts, strict=True)
        if kind == fmt.DOCUMENTS
    ]
