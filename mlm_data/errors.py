"""What a user can mend. Everything else is a bug and may show a traceback.

Every command turns a `PremaskError` into one line on standard error and exit code 2. The message says what is
wrong, where, and what to do. It never shows a secret of a URI.
"""

import re

# Every repetition is bounded, so that a text is looked through in a time that grows as it does.
_STORES = "s3|gs|gcs|abfss?"
_USER = r"([^/@\s:]{0,200})(?::|%3A)[^/\s]{0,2000}@"  # key and secret, as far as the last `@` before a `/`
_SLASHED = r"([^/@\s:%]{0,200})(?::|%3A)[^/@\s]{0,2000}/\S{0,200}(?:@|%40)"  # a secret whose `/` is not written as %2F
_NAMES = "secret|password|token|signature|account_key|sig"
_OPTION = re.compile(rf"([?&][\w-]{{0,40}}?(?:{_NAMES})[\w-]{{0,40}}=)[^&\s]+", re.IGNORECASE)
_OF_STORES = re.compile(rf"\b({_STORES})://(?:{_USER}|{_SLASHED})", re.IGNORECASE)
_OF_ANY = re.compile(rf"\b([\w+.-]{{1,20}})://{_USER}")


def hidden(text: str, *, of_stores: bool = False) -> str:
    """A text without secrets of URIs.

    Args:
        text: a message, or what a command prints.
        of_stores: leave other URIs as they are, which a text of a corpus may hold.

    >>> hidden("s3://key:secret@bucket/data: no"), hidden("s3://key:se/cret@bucket/data")
    ('s3://key:...@bucket/data: no', 's3://key:...@bucket/data')
    """
    if "://" not in text:
        return text
    text = _OF_STORES.sub(lambda found: f"{found[1]}://{found[2] or found[3] or ''}:...@", text)
    return text if of_stores else _OPTION.sub(r"\1...", _OF_ANY.sub(r"\1://\2:...@", text))


class PremaskError(Exception):
    """Base of all errors that a user can mend."""

    def __init__(self, *told: object) -> None:
        super().__init__(*(hidden(one) if isinstance(one, str) else one for one in told))


class ConfigError(PremaskError):
    """A configuration or an option that can't be right; names the field, the value and the remedy."""


class InputError(PremaskError):
    """Input files that can't be found, opened or understood."""


class TokenizerError(PremaskError):
    """A tokenizer that can't be used for masked-language modelling, or doesn't fit the dataset."""


class BuildError(PremaskError):
    """A build that must not be published: too much quarantined, an unbalanced ledger, a failed audit."""


class FormatError(PremaskError):
    """A dataset on disk that breaks the format: missing or changed bytes, an unknown version."""


class NewerFormatError(FormatError):
    """A dataset of a format version that this premask doesn't know yet."""


class PurgedError(FormatError):
    """A version that `premask forget --purge` took away; says when, and which one takes its place."""


class StorageError(PremaskError):
    """A place that can't be read or written: a full disk, no permission, a folder that holds something else."""


class CheckpointError(PremaskError):
    """A training run's checkpoint that is damaged, or belongs to another dataset or model."""
