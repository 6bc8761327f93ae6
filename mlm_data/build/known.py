"""What a version holds already: new documents are compared with its signatures as if they were read after it.

A signatures file is what one unit kept: ids, and where near duplicates are dropped a sketch for each (`minhash`). Only
those signatures are looked at closely that meet one of the new: a table of bits tells of a hash of an id, or of a band,
whether any new one can be equal.

    exact   16 bytes a document, one look at the table
    near    a sketch (112 bytes at 16 x 7) a document, its bands hashed again, one look for each

So the cost is that of reading the signatures once, a hundredth of the text they stand for or less, and memory is one
file of them beside what meets. What a version holds stays: it ranks before all that is new.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64, UInt64

from mlm_data.config import BuildConfig
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.documents import documents_files, place_of
from mlm_data.dataset.heritage import signatures_of
from mlm_data.duplicates import clusters, exact, minhash
from mlm_data.errors import ConfigError
from mlm_data.hashing import Hashes, ids_from_arrow, ids_to_arrow
from mlm_data.shards.format import SKETCH
from mlm_data.shards.reader import read_batches

KNOWN = -1  # the unit of all that is known, in records of exact duplicates
BITS_EACH = 32  # of the table, for each new hash: one in 32 of the others looks like one


class Known:
    """The signatures of a version."""

    def __init__(self, dataset: Dataset, config: BuildConfig) -> None:
        """Open a version's signatures.

        Raises:
            ConfigError: if the version was built before sketches were kept, and near duplicates are to be found.
        """
        self._dataset, self._near = dataset, config.deduplicate.near
        self._records = {record.unit: record.file for record in signatures_of(dataset)}
        self.next_unit = 1 + max(dataset.files["unit"].to_pylist(), default=-1)
        if self._near is not None:
            for unit in self._records:
                if SKETCH not in self._read(unit).schema.names:
                    raise ConfigError(
                        f"{dataset.folder.location}: was built without sketches of its documents, so near duplicates "
                        "of them can't be found: build it again into the same folder, and add to that version"
                    )

    def ids(self, wanted: Hashes) -> exact.Records:
        """Records of those of some ids that the version has, each once; their unit is KNOWN, which is before all."""
        found = [np.zeros((0, 2), np.uint64)]
        filter_ = _Filter(wanted[:, 0])
        for unit in self._records:
            for batch in self._read(unit).to_batches():
                ids = ids_from_arrow(batch.column("id"))
                found.append(ids[filter_.has(np.ascontiguousarray(ids[:, 0]))])
        ids = np.unique(np.concatenate(found), axis=0)
        return exact.pack_records(ids, KNOWN, np.arange(len(ids)))

    def copies(self, ids: Hashes) -> dict[bytes, int]:
        """The largest number of a copy of each of these ids that the version has."""
        wanted, largest = ids_to_arrow(ids), dict[bytes, int]()
        if not len(ids):
            return largest
        for file in documents_files(self._dataset):
            table = file.read("id", "copy")
            table = table.filter(pa.compute.is_in(table["id"], value_set=wanted))
            for one, number in zip(table["id"].to_pylist(), table["copy"].to_pylist(), strict=True):
                largest[one] = max(largest.get(one, 0), number)
        return largest

    def bands(self, keys: UInt64[np.ndarray, " bands"]) -> clusters.Bands:
        """Band records of the version's documents that meet one of these keys; the document is a row of its file."""
        found = [np.zeros(0, clusters.BAND)]
        filter_ = _Filter(keys)
        for unit in self._records:
            found.extend(self._bands(unit, filter_))
        return np.concatenate(found)

    def members(self, unit: int, rows: Int32[np.ndarray, " documents"]) -> clusters.Members:
        """What `clusters` wants to know of some rows of a unit's signatures; they rank before every input."""
        chosen = self._read(unit).take(pa.array(rows)).combine_chunks()
        return clusters.Members(
            input=np.full(len(rows), clusters.HELD, np.int32),
            length=np.zeros(len(rows), np.int64),
            ids=ids_from_arrow(chosen["id"].combine_chunks()),
            values=_values(chosen[SKETCH].combine_chunks()),
        )

    def places(self, documents: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """`source at offset` of rows of signatures, given as (unit, row)."""
        ids = {key: self._read(key[0])["id"][key[1]].as_py() for key in sorted(documents)}
        wanted, found = pa.array(sorted(set(ids.values())), pa.binary(16)), dict[bytes, str]()
        if ids:
            for file in documents_files(self._dataset):
                table = file.read("id", "source", "offset")
                for line in table.filter(pa.compute.is_in(table["id"], value_set=wanted)).to_pylist():
                    found.setdefault(line["id"], place_of(line["source"], line["offset"]))
        return {key: found.get(one, "") for key, one in ids.items()}

    def _bands(self, unit: int, filter_: "_Filter") -> Iterator[clusters.Bands]:
        assert self._near is not None, "near duplicates are looked for"
        first = 0
        for batch in self._read(unit).to_batches():
            sketches = batch.column(SKETCH)
            keys = minhash.band_keys(_values(sketches), bands=self._near.bands)
            meets = filter_.has(keys.reshape(-1)).reshape(keys.shape)
            if sketches.null_count:
                meets &= np.asarray(sketches.is_valid(), bool)[:, None]
            row, band = np.nonzero(meets)
            records = np.empty(len(row), clusters.BAND)
            records["key"], records["unit"], records["document"] = keys[row, band], unit, first + row
            yield records
            first += batch.num_rows

    def _read(self, unit: int) -> pa.Table:
        file = self._records[unit]
        return pa.Table.from_batches(read_batches(self._dataset.folder, file.name, file.num_bytes))


class _Filter:
    """Some hashes, to be asked for many others."""

    def __init__(self, wanted: UInt64[np.ndarray, " wanted"]) -> None:
        self._wanted = np.unique(wanted)
        size = 1 << max(10, (BITS_EACH * len(self._wanted)).bit_length())
        self._mask = np.uint64(size - 1)
        self._table = np.zeros(size, np.bool_)
        self._table[self._wanted & self._mask] = True

    def has(self, hashes: UInt64[np.ndarray, " hashes"]) -> Bool[np.ndarray, " hashes"]:
        """Whether each is among the wanted."""
        found = self._table[hashes & self._mask]
        some: Int64[np.ndarray, " some"] = np.flatnonzero(found)
        if some.size:
            nearest = np.minimum(np.searchsorted(self._wanted, hashes[some]), len(self._wanted) - 1)
            found[some] = self._wanted[nearest] == hashes[some]
        return found


def _values(sketches: pa.FixedSizeBinaryArray) -> np.ndarray:
    """uint8 [documents, size]; what stands for a null means nothing."""
    size = sketches.type.byte_width
    flat = np.frombuffer(sketches.buffers()[1], np.uint8, count=len(sketches) * size, offset=sketches.offset * size)
    return flat.reshape(len(sketches), size)
