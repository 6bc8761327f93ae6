"""Examples of dropped documents, as a version keeps them beside its manifest in `versions/<digest>.dropped.jsonl`."""

import json
from dataclasses import fields

from mlm_data.dataset.funnel import Example
from mlm_data.dataset.manifest import Manifest, load_attachment
from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder

DROPPED = "dropped.jsonl"


def load_examples(folder: Folder, manifest: Manifest) -> tuple[Example, ...]:
    """The examples of a version, by input and reason; () where it keeps none.

    Raises:
        FormatError: if the file is missing, was changed, or isn't what a build writes.
    """
    known = {field.name for field in fields(Example)}
    found = []
    try:
        for line in load_attachment(folder, manifest, DROPPED).splitlines():
            found.append(Example(**{name: value for name, value in json.loads(line).items() if name in known}))
    except (ValueError, TypeError, AttributeError) as error:
        where = f"{folder.location}/versions/{manifest.digest}.{DROPPED}"
        raise FormatError(f"{where}: damaged: {str(error).splitlines()[0]}") from error
    return tuple(sorted(found, key=lambda one: (one.input, one.reason, one.id, one.source, one.offset)))
