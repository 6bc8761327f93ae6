"""Formats of input files. A new one is a file in this folder, its name in `InputSettings.format`, and a line here."""

from mlm_data.text.formats import arrow_ipc, csv, fasta, html, json_array, jsonl, parquet, plain, warc
from mlm_data.text.formats.record import Format

FORMATS: dict[str, Format] = {
    kind.name: kind
    for kind in (
        plain.FORMAT,
        jsonl.FORMAT,
        json_array.FORMAT,
        csv.CSV,
        csv.TSV,
        fasta.FORMAT,
        parquet.FORMAT,
        arrow_ipc.FORMAT,
        warc.FORMAT,
        html.FORMAT,
    )
}
BY_EXTENSION = {extension: kind for kind in FORMATS.values() for extension in kind.extensions}
