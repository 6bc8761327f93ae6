"""What a user can mend. Everything else is a bug and may show a traceback.

Every command turns a `PremaskError` into one line on standard error and exit code 2. The message says what is
wrong, where, and what to do. It never shows a secret of a URI.
"""

from mlm_data.hiding import hidden


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
