"""The settings of `premask add`: those of the version, read from its manifest, and what the new files need beside them.

A manifest has the *semantic* configuration: what the bytes depend on. Paths are not in it. That of the tokenizer is not
needed, a copy lies in the dataset; those of blocklists, models and evaluations are given again, and must hold what they
held then. A setting that would change the documents that are there already can't be changed.
"""

import copy
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlm_data.build.assets import find_assets
from mlm_data.config import BuildConfig, InputSettings, semantic
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.heritage import told_of
from mlm_data.dataset.manifest import version_names
from mlm_data.dataset.seals import canonical
from mlm_data.errors import ConfigError, FormatError
from mlm_data.settings import apply_overrides, parse_settings
from mlm_data.tokens.reference import Reference

PATHS = {"clean.domains": "drop", "clean.classifier": "path", "decontaminate": "against"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which files are to be added, and how they are read."""

    paths: tuple[str, ...]  # files or globs
    input: str | None = None  # of the version's inputs the name, or the number, whose settings hold; None: the only one
    overrides: tuple[str, ...] = ()  # field=value: settings of an input, or what a manifest doesn't have
    skip_known: bool = False  # leave out files whose sources the version has


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What holds for the new files."""

    config: BuildConfig  # of the new version: inputs of which the new files are none have their old paths, or none
    number: int  # of the input that the new files are of
    settings: InputSettings  # its settings
    assets: tuple[tuple[str, str], ...]


def settle_request(parent: Dataset, request: Request) -> Settled:
    """Work out the settings for some new files.

    Raises:
        ConfigError: for settings that can't be right, or that would change what is there, and where the version was
            imported.
    """
    where = parent.folder.location
    if "import" in parent.manifest.config:
        tool = parent.manifest.config["import"]["from"]
        raise ConfigError(
            f"{where}: was imported ({tool}): its documents have no text, so copies of them can't be found among new "
            "files: tokenize those with the tool that made it, and import all again"
        )
    of_input, of_build = _sort(request.overrides)
    config = _config(parent, of_build)
    number = _number(config, request.input, where)
    chosen = config.inputs[number]
    if of_input:
        values = apply_overrides(chosen.model_dump(mode="json", exclude_defaults=True), of_input)
        chosen = parse_settings(InputSettings, values, where="--set")
        same = [_facts(item) for item in config.inputs]
        number = same.index(_facts(chosen)) if _facts(chosen) in same else len(config.inputs)
        if number == len(config.inputs):
            _check_columns(config, chosen)
            path = request.paths[0]
            config = config.model_copy(update={"inputs": (*config.inputs, chosen.model_copy(update={"path": path}))})
    assets = find_assets(config)
    _check_same(parent, config, assets)
    return Settled(config=config, number=number, settings=chosen, assets=assets)


def check_tokenizer(parent: Dataset, reference: Reference) -> None:
    """Make sure that the tokenizer is understood as it was.

    Raises:
        ConfigError: if its tokens have other roles now.
    """
    if reference.roles != parent.manifest.roles:
        raise ConfigError(
            f"{parent.folder.location}: this premask finds other special tokens in its tokenizer than the build did: "
            "build it again, and add to that version"
        )


def _sort(overrides: Iterable[str]) -> tuple[list[str], list[str]]:
    """(settings of an input, settings of the build)"""
    sorted_: tuple[list[str], list[str]] = ([], [])
    for override in overrides:
        name = override.partition("=")[0]
        if name == "path":
            raise ConfigError("--set path=...: name the files as arguments: premask add DATASET more/*.jsonl")
        sorted_[name.partition(".")[0] not in InputSettings.model_fields].append(override)
    return sorted_


def _config(parent: Dataset, overrides: Sequence[str]) -> BuildConfig:
    """The build's configuration again, from the manifest."""
    where = parent.folder.location
    values = copy.deepcopy(dict(parent.manifest.config))
    values.pop("assets", None)
    name, paths = _named(parent)
    values |= {"name": name, "output": where, "seed": int(values["seed"])}
    for number, item in enumerate(values["inputs"]):
        item["path"] = paths[number] if number < len(paths) else f"inputs.{number}"
    if values["tokenizer"].get("train") is None:
        values["tokenizer"]["path"] = f"{where}/{version_names(parent.manifest)['tokenizer']}"
    values = apply_overrides(values, overrides)
    for setting, field in PATHS.items():
        inner: Any = values
        for part in setting.split("."):
            inner = (inner or {}).get(part)
        if inner is not None and field not in inner:
            raise ConfigError(
                f"{where}: was built with {setting}.{field}, and a dataset doesn't keep where that lies: say "
                f"--set {setting}.{field}=PATH"
            )
    config = parse_settings(BuildConfig, values, where=where)
    # Only what is no default counts as written down: see `text.inputs.check_settings`.
    inputs = tuple(
        parse_settings(InputSettings, item.model_dump(mode="json", exclude_defaults=True), where=where)
        for item in config.inputs
    )
    return config.model_copy(update={"inputs": inputs})


def _named(parent: Dataset) -> tuple[str, list[str]]:
    """(the dataset's name, paths of its inputs), as the version or one that it was made from remembers them."""
    with suppress(FormatError):
        side = told_of(parent, "inputs")
        return side.get("name", "dataset"), list(side.get("inputs", ()))
    return "dataset", []


def _number(config: BuildConfig, wanted: str | None, where: str) -> int:
    """Which input's settings hold."""
    names = [item.name for item in config.inputs]
    if wanted is None:
        if len(names) == 1:
            return 0
        raise ConfigError(
            f"{where}: has {len(names)} inputs, each with settings of its own: say --input with the number of one "
            f"(0 to {len(names) - 1}) or its name: {', '.join(item.name or item.path for item in config.inputs)}"
        )
    if wanted in names and names.count(wanted) == 1 and wanted:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    raise ConfigError(
        f"{where}: has no input {wanted!r}: they are {', '.join(f'{i}: {n}' for i, n in enumerate(names))}"
    )


def _facts(settings: InputSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={"path"})


def _check_columns(config: BuildConfig, settings: InputSettings) -> None:
    """Refuse columns that the documents that are there don't have."""
    kept = {name for item in config.inputs for name in item.keep_fields}
    if more := sorted(set(settings.keep_fields) - kept):
        raise ConfigError(
            f"--set keep_fields: no document that is there has a field {more[0]!r}: build anew to keep it"
        )
    if settings.id_field is not None and all(item.id_field is None for item in config.inputs):
        raise ConfigError("--set id_field: no document that is there has an id of your own: build anew to keep them")


def _check_same(parent: Dataset, config: BuildConfig, assets: Sequence[tuple[str, str]]) -> None:
    """Refuse a configuration that is not the version's, but for further inputs."""
    where, old = parent.folder.location, dict(parent.manifest.config)
    new = semantic(config, assets)
    before, after = dict(old.get("assets", {})), dict(new.get("assets", {}))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            raise ConfigError(
                f"{where}: {name}: what it names is not what it was when the dataset was built: "
                "give that again, or build anew"
            )
    new["inputs"] = new["inputs"][: len(old["inputs"])]
    for name in sorted({*old, *new}):
        if canonical(old.get(name)) != canonical(new.get(name)):
            raise ConfigError(
                f"{where}: {name}: would be another for the new documents than for those that are there: "
                "leave it as it is, or build anew"
            )
