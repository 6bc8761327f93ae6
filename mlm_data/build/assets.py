"""Files beside the inputs that a build's result depends on: blocklists, models, filters of the user's, evaluations.

A dataset's digest and the keys of its prepared units hold the hashes of what is in them, not their paths.
"""

import hashlib
from collections.abc import Iterator

from mlm_data.build import evaluations
from mlm_data.build.curate import filter_source, language_model
from mlm_data.config import BuildConfig
from mlm_data.curation.classifier import file_sha256
from mlm_data.stores.folder import read_input


def find_assets(config: BuildConfig) -> tuple[tuple[str, str], ...]:
    """(setting, hash of what it names), sorted.

    Raises:
        InputError: a file is missing.
        ConfigError: a module or a library is missing.
    """
    return tuple(sorted(_assets(config)))


def _assets(config: BuildConfig) -> Iterator[tuple[str, str]]:
    clean = config.clean
    if clean.languages is not None:
        yield "clean.languages.model", language_model(clean.languages).version
    if clean.domains is not None:
        yield "clean.domains.drop", _sha256(read_input(clean.domains.drop))
    if clean.classifier is not None:
        yield "clean.classifier.path", file_sha256(clean.classifier.path)
    if config.decontaminate is not None:
        yield evaluations.ASSET, evaluations.read_items(config.decontaminate).sha256
    for name in clean.custom:
        yield f"clean.custom.{name}", _sha256(filter_source(name))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
