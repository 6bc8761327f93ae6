"""The card of a dataset: README.md with the header that the Hugging Face Hub reads, made from the manifest.

    ---
    pretty_name: "books"
    language: ["en", "de"]
    task_categories: ["fill-mask"]
    size_categories: ["100K<n<1M"]
    ...

Only what the version says of itself is written. Languages are those that the build has found, license and name what
the caller gives; what nobody knows is left out. The keys are those of the Hub's dataset cards (huggingface_hub,
`DatasetCardData`). With `configs` the Hub, and `datasets.load_dataset` on the folder, find the packed rows of each
split among the files of all versions.

The header is YAML, and its strings are written as JSON, which is YAML. In the text every name from a corpus is one line
without control characters, and punctuation that Markdown or HTML would read becomes an entity.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlm_data.console import percent, shown, size
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.heritage import told_of
from mlm_data.dataset.manifest import Manifest, load_side
from mlm_data.dataset.steps import KEPT
from mlm_data.shards import format as fmt

MOST_FILES = 500  # paths that the header lists: the Hub reads them at each visit
MOST_REASONS = 30
LEAST_SHARE = 0.01  # of the kept tokens: languages below it are mostly mistakes of the model that finds them
NO_LANGUAGE = frozenset({"und", "zxx"})  # undetermined; no language: not for the header
NAME_CHARS = 100

_CODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 _.:/+,=-]*[A-Za-z0-9_])?")
_LANGUAGE = re.compile(r"[a-z]{2,3}")  # ISO 639-1 or 639-3, as the Hub takes them


def card(dataset: Dataset, *, name: str, license_id: str | None = None, languages: Sequence[str] = ()) -> str:
    """The text of README.md.

    Args:
        dataset: the version.
        name: what people call it.
        license_id: the license's name on the Hub, such as `cc-by-4.0`; the header has none without it.
        languages: codes that go into the header instead of those that the build has found.

    Raises:
        FormatError: if the version's side file is missing or damaged.
    """
    header = card_header(dataset, name=name, license_id=license_id, languages=languages)
    lines = ["---", *_yaml(header), "---", "", f"# {plain(name)}", ""]
    lines += _body(dataset)
    return "\n".join(lines).rstrip() + "\n"


def name_of(dataset: Dataset) -> str | None:
    """What the configuration of the build calls the dataset; a version made from another one has its parent's name.

    Raises:
        FormatError: if a side file is damaged.
    """
    return told_of(dataset, "name").get("name")


def card_header(
    dataset: Dataset, *, name: str, license_id: str | None = None, languages: Sequence[str] = ()
) -> dict[str, Any]:
    """The fields that the Hub reads, as plain types, in the order in which cards have them."""
    manifest = dataset.manifest
    found = list(languages) or found_languages(manifest)
    header: dict[str, Any] = {"pretty_name": shown(name, NAME_CHARS)}
    if found:
        header["language"] = found
    if license_id:
        header["license"] = license_id
    rows = {split: counts["num_rows"] for split, counts in manifest.splits.items()}
    header |= {
        "task_categories": ["fill-mask"],
        "size_categories": [size_category(sum(rows.values()))],
        "tags": ["premask", "masked-language-modeling", "pre-tokenized", "arrow"],
    }
    files = {split: _files(dataset, split) for split in fmt.SPLITS if rows[split]}
    if sum(map(len, files.values())) <= MOST_FILES:
        data_files = [{"split": split, "path": paths} for split, paths in files.items()]
        header["configs"] = [{"config_name": "rows", "default": True, "data_files": data_files}]
    return header


def found_languages(manifest: Manifest) -> list[str]:
    """Codes of the languages of at least 1 % of the kept tokens, the most tokens first."""
    kept = {
        language: counts[2]
        for (language, reason), counts in manifest.funnel.by("language", "reason").items()
        if reason == KEPT
    }
    total = sum(kept.values())
    named = [code for code in kept if _LANGUAGE.fullmatch(code) and code not in NO_LANGUAGE]
    frequent = [code for code in named if kept[code] >= LEAST_SHARE * total]
    return sorted(frequent, key=lambda code: (-kept[code], code))


def size_category(num_rows: int) -> str:
    """The Hub's class of a number of rows.

    >>> [size_category(number) for number in (0, 999, 1000, 123_456, 2 * 10**12)]
    ['n<1K', 'n<1K', '1K<n<10K', '100K<n<1M', 'n>1T']
    """
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    for place, name in enumerate(names):
        if num_rows < 1000 * 10**place:
            return f"{names[place - 1]}<n<{name}" if place else f"n<{name}"
    return f"n>{names[-1]}"


def plain(text: str, most: int = NAME_CHARS) -> str:
    r"""A text of somebody else's in Markdown: one line, in which nothing is markup.

    >>> plain("a_b <i>\n")
    'a&#95;b &#60;i&#62;&#92;n'
    """
    kept = " ,;?'%=/-."
    return "".join(
        char if char.isalnum() or char in kept or not char.isascii() else f"&#{ord(char)};"
        for char in shown(text, most)
    )


def named(text: str) -> str:
    """A name in Markdown: as code where nothing in it is markup there, else as `plain` has it.

    >>> named("gopher_quality:too_few_words"), named("a|b")
    ('`gopher_quality:too_few_words`', 'a&#124;b')
    """
    return f"`{text}`" if len(text) <= NAME_CHARS and _CODE.fullmatch(text) else plain(text)


def _body(dataset: Dataset) -> list[str]:
    manifest, side = dataset.manifest, load_side(dataset.folder, dataset.manifest)
    masks = manifest.config["mask"]
    tokens = sum(split["num_tokens"] for split in manifest.splits.values())
    rates = ", ".join(dict.fromkeys(f"{rate:g}" for rate in masks["rate"]))
    special = {name: getattr(manifest.roles, name) for name in ("cls", "sep", "pad", "mask", "unk")}
    roles = ", ".join(f"{name} {number}" for name, number in special.items() if number >= 0)
    lines = [
        f"{tokens:,} tokens in rows of {manifest.sequence_length:,}, packed and masked ahead of training by Premask.",
        "",
        "| | |",
        "|---|---|",
        f"| version | `{manifest.digest}` |",
    ]
    lines += [f"| made by | {named(str(side.get('made_by', 'build')))} |"]
    if parent := side.get("parent"):
        lines.append(f"| version before | `{_digits(parent)}` |")
    if published := side.get("published"):
        lines.append(f"| published | {named(str(published))} |")
    lines += [
        f"| planes | {manifest.num_planes:,}: {named(str(masks['kind']))}, rate {rates} |",
        f"| targets | {masks['mask_share']:.0%} hold the mask token, {masks['random_share']:.0%} another token, "
        f"{masks['keep_share']:.0%} themselves |",
        f"| vocabulary | {manifest.vocab_size:,} ids; {roles} |",
        f"| tokenizer | `{_digits(manifest.tokenizer['sha256'])}` |",
        "",
        "## Splits",
        "",
        "| split | documents | rows | tokens | full |",
        "|---|---|---|---|---|",
    ]
    for split, counts in manifest.splits.items():
        places = counts["num_rows"] * manifest.sequence_length
        full = f"{counts['num_tokens'] / places:.1%}" if places else ""
        cells = (f"{counts[f'num_{name}']:,}" for name in ("documents", "rows", "tokens"))
        lines.append(f"| {split} | {' | '.join(cells)} | {full} |")
    lines += [
        "",
        "## Read it",
        "",
        "```python",
        "from premask import open_dataset",
        "",
        'ds = open_dataset("PATH")  # the folder that holds this file',
        "batches = ds.torch(batch_rows=32)",
        "```",
        "",
        "Or with any reader of Arrow files. `rows/` holds ids, segments and word starts, `masks/` what each plane",
        "hides, `documents/` where each document came from, and `versions/` which files belong to which version.",
        "",
        *_documents(manifest),
        *_languages(manifest),
    ]
    return lines


def _documents(manifest: Manifest) -> list[str]:
    documents = manifest.ledger["documents"]
    fates = [("read", documents["read"])]
    fates += [(f"quarantined: {reason}", count) for reason, count in documents["quarantined"].items()]
    dropped = sorted(documents["dropped"].items(), key=lambda item: (-item[1], item[0]))
    fates += [(f"dropped: {reason}", count) for reason, count in dropped[:MOST_REASONS]]
    if rest := sum(count for _, count in dropped[MOST_REASONS:]):
        fates.append(("dropped for other reasons", rest))
    if repeated := documents.get("repeated"):
        fates.append(("copies, as weights say", repeated))
    fates.append(("kept", documents["kept"]))
    lines = ["## Documents", "", f"{size(manifest.ledger['bytes']['read'])} of input were read.", ""]
    lines += ["| | documents |", "|---|---|", *(f"| {named(name)} | {count:,} |" for name, count in fates), ""]
    inputs = manifest.funnel.by("input", "reason")
    if inputs:
        totals = {name: counts[0] for (name,), counts in manifest.funnel.by("input").items()}
        lines += ["| input | documents | kept | tokens kept |", "|---|---|---|---|"]
        for name, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
            kept = inputs.get((name, KEPT), (0, 0, 0))
            lines.append(f"| {named(name)} | {total:,} | {kept[0]:,} | {kept[2]:,} |")
        lines.append("")
    return lines


def _languages(manifest: Manifest) -> list[str]:
    kept = {
        key[0]: counts for key, counts in manifest.funnel.by("language", "reason").items() if key[0] and key[1] == KEPT
    }
    if not kept:
        return []
    total = sum(counts[0] for counts in kept.values())
    lines = ["## Languages", "", "As the build has found them, by document.", ""]
    lines += ["| language | documents | share |", "|---|---|---|"]
    ordered = sorted(kept.items(), key=lambda item: (-item[1][0], item[0]))
    for name, counts in ordered[:MOST_REASONS]:
        lines.append(f"| {named(name)} | {counts[0]:,} | {percent(counts[0], total)} |")
    if len(ordered) > MOST_REASONS:
        rest = sum(counts[0] for _, counts in ordered[MOST_REASONS:])
        lines.append(f"| {len(ordered) - MOST_REASONS} others | {rest:,} | {percent(rest, total)} |")
    return [*lines, ""]


def _digits(text: object) -> str:
    """A hash as it is, and nothing that isn't one."""
    return "".join(char for char in str(text) if char in "0123456789abcdef")[:64]


def _files(dataset: Dataset, split: str) -> list[str]:
    """Paths of a split's packed rows, each once, in the order of the shards."""
    lines = (dataset.lines(split, index)[0] for index in range(dataset.num_shards(split)))
    return list(dict.fromkeys(line["name"] for line in lines))


def _yaml(value: Mapping[str, Any], depth: str = "") -> list[str]:
    """Lines of a mapping of plain types: mappings and lists of mappings are indented, all else is JSON."""
    lines = []
    for key, inner in value.items():
        if isinstance(inner, list) and inner and isinstance(inner[0], Mapping):
            lines.append(f"{depth}{key}:")
            for item in inner:
                first, *rest = _yaml(item, f"{depth}  ")
                lines += [f"{depth}- {first.strip()}", *rest]
        elif isinstance(inner, list) and len(inner) > 4:
            lines += [f"{depth}{key}:", *(f"{depth}- {_json(item)}" for item in inner)]
        else:
            lines.append(f"{depth}{key}: {_json(inner)}")
    return lines


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
