"""Fields that a configuration names and no document has: a misspelled name, not a property of the data.

A table says what columns it has, so that the plan refuses it (`text.tables`). Of JSON only the documents know: every
batch counts in how many of them each wanted field is, the counts are added up over an input's units, and a field that
is in none of them is an error. Where it is missing in some, they have a null there.
"""

from collections.abc import Iterable, Mapping, Sequence

from mlm_data.config import BuildConfig, InputSettings
from mlm_data.text.field_names import hint
from mlm_data.types import FieldCounts


def add_counts(counts: Iterable[tuple[int, FieldCounts]]) -> dict[int, FieldCounts]:
    """The sum for each input, by its number."""
    totals: dict[int, FieldCounts] = {}
    for number, more in counts:
        totals[number] = totals.get(number, FieldCounts()) + more
    return totals


def absent_fields(config: BuildConfig, totals: Mapping[int, FieldCounts]) -> list[str]:
    """One line for each wanted field that is in no document of its input; [] if all is well."""
    return [
        f"inputs.{number}.{role}: none of {counts.num_objects} documents has the field {name!r}: "
        f"{hint(name, counts.seen)}. Set {role}"
        for number, counts in sorted(totals.items())
        if counts.num_objects
        for role, name in _wanted(config.inputs[number])
        if not counts.present.get(name, 0)
    ]


def hexadecimal_fields(totals: Mapping[int, FieldCounts]) -> list[str]:
    """One line for each input with columns of bytes among its id and the fields to keep."""
    return [
        f"inputs.{number}: {', '.join(counts.as_hex)}: bytes, written as hexadecimal digits"
        for number, counts in sorted(totals.items())
        if counts.as_hex
    ]


def _wanted(settings: InputSettings) -> Sequence[tuple[str, str]]:
    """(role, name) of each field of an input."""
    wanted = [("text_field", name) for name in settings.text_fields]
    wanted += [("id_field", settings.id_field)] if settings.id_field is not None else []
    wanted += [("word_field", settings.word_field)] if settings.word_field is not None else []
    return [*wanted, *(("keep_fields", name) for name in settings.keep_fields)]
