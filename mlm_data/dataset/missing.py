"""How many documents have no value in the fields that the user wanted kept."""

import pyarrow as pa

from mlm_data.dataset.manifest import Manifest, load_files
from mlm_data.shards.format import DOCUMENTS
from mlm_data.stores.folder import Folder


def missing_values(folder: Folder, manifest: Manifest) -> dict[str, int]:
    """For each field, the number of kept documents with a null in it; only fields with any.

    Reads the counts that Arrow keeps with each batch, not the values.
    """
    inputs = manifest.config["inputs"]
    if not any(item["id_field"] is not None or item["keep_fields"] for item in inputs):
        return {}
    files = load_files(folder, manifest)
    counts: dict[str, int] = {}
    for kind, name in zip(files["kind"].to_pylist(), files["name"].to_pylist(), strict=True):
        if kind != DOCUMENTS:
            continue
        with folder.open(name, whole=True) as stream:
            table = pa.ipc.open_file(stream).read_all()
            for column in table.schema:
                if column.nullable and (number := table.column(column.name).null_count):
                    field = column.name.removeprefix("keep.")
                    counts[field] = counts.get(field, 0) + number
    return counts
