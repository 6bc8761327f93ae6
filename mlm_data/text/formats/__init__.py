"""Formats of input files. A new one is a file in this folder, its name in `InputSettings.format`, and a line here."""

from mlm_data.text.formats import arrow_ipc, jsonl, parquet, plain
from mlm_data.text.formats.record import Format

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        plain,
        jsonl,
        parquet,
        arrow_ipc,
    )
}
BY_EXTENSION = {extension: kind for kind in FORMATS.values() for extension in kind.extensions}
