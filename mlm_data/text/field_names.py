"""Names of fields, as `text_field` may write them, for messages about a field that is not there."""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

MAX_LEVELS = 4
MAX_NAMES = 100
MAX_SHOWN = 20


def hint(name: str, known: Sequence[str]) -> str:
    """What may have been meant: the nearest known name, and all that there are.

    >>> hint("txt", ["id", "text"])
    "did you mean 'text'? There are: id, text"
    """
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    shown = [known_name if known_name.isprintable() else ascii(known_name) for known_name in known[:MAX_SHOWN]]
    more = f" and {len(known) - MAX_SHOWN} more" if len(known) > MAX_SHOWN else ""
    there = f"There are: {', '.join(shown)}{more}" if known else "There are none"
    return f"did you mean {nearest[0]!r}? {there}" if nearest else there


def names_in_schema(schema: pa.Schema) -> list[str]:
    """The columns of a table, and the fields in their structs and lists of structs.

    >>> names_in_schema(pa.schema({"id": pa.int64(), "m": pa.list_(pa.struct({"content": pa.string()}))}))
    ['id', 'm[].content']
    """
    return list(dict.fromkeys(name for field in schema for name in _in_type(field.name, field.type, MAX_LEVELS)))


def names_in_json(lines: Iterable[bytes]) -> list[str]:
    """The fields of a few objects, as `names_in_schema`; what is no JSON has none.

    >>> names_in_json([b'{"id": 1}', b'{"id": 2, "m": [{"content": "a"}]}'])
    ['id', 'm[].content']
    """
    found: dict[str, None] = {}
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found |= dict.fromkeys(_in_value("", value, MAX_LEVELS))
    return list(found)[:MAX_NAMES]


def _in_type(name: str, kind: pa.DataType, levels: int) -> Iterator[str]:
    inner = kind
    while hasattr(inner, "value_type") and not pa.types.is_dictionary(inner):
        name, inner = name + "[]", inner.value_type
    if pa.types.is_struct(inner) and levels:
        for field in inner:
            yield from _in_type(f"{name}.{field.name}", field.type, levels - 1)
    else:
        yield name.rstrip("[]") if inner is not kind else name


def _in_value(prefix: str, value: object, levels: int) -> Iterator[str]:
    if isinstance(value, dict) and value and levels:
        for name, inner in value.items():
            yield from _in_value(f"{prefix}.{name}" if prefix else name, inner, levels - 1)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value[:MAX_SHOWN]:
            if isinstance(item, dict):
                yield from _in_value(f"{prefix}[]", item, levels)
    else:
        yield prefix
