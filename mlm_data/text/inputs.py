"""All files of a configuration's inputs, and what each of them is."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from mlm_data.config import BuildConfig
from mlm_data.errors import ConfigError
from mlm_data.text.encodings import check_encoding
from mlm_data.text.find import Found, expand
from mlm_data.text.formats import FORMATS
from mlm_data.text.identify import InputFile, identify
from mlm_data.text.sniff import Why

READERS = 16  # files looked at side by side: each costs one round trip to a bucket


def find_files(config: BuildConfig) -> tuple[list[InputFile], list[str]]:
    """The files of all inputs, sorted by source, and warnings for the plan.

    Raises:
        ConfigError: two files with one source, an unknown encoding, a setting that no file has a use for.
        InputError: no file matches, or one can't be read.
    """
    found: dict[str, tuple[int, str]] = {}
    infos: list[tuple[int, str, Found]] = []
    warnings: list[str] = []
    for number, settings in enumerate(config.inputs):
        check_encoding(settings.encoding)
        items, more = expand(settings.path, f"inputs.{number}.path")
        warnings += more
        for item in items:
            source = f"{settings.name}/{item.relative}" if settings.name else item.relative
            other, path = found.setdefault(source, (number, item.path))
            if path != item.path:
                raise ConfigError(
                    f"inputs.{number}: {item.path} and {path} would both be called {source!r}: "
                    f"give inputs.{number} or inputs.{other} a `name:`"
                )
            if other != number:
                warnings.append(f"{source}: matched by inputs.{other} and inputs.{number}; read once, as the former")
                continue
            infos.append((number, source, item))
    by_content = config.cache.identity == "content"

    def look(info: tuple[int, str, Found]) -> InputFile:
        return identify(config.inputs[info[0]], *info, by_content=by_content)

    with ThreadPoolExecutor(READERS) as pool:
        files = list(pool.map(look, infos))
    files.sort(key=lambda file: file.source)
    check_settings(config, files)
    return files, [*warnings, *_grouped_warnings(files)]


def check_settings(config: BuildConfig, files: Sequence[InputFile]) -> None:
    """Refuse a setting that no file of its input has a use for.

    A setting counts as given where it is written down, even with its default value. One glob may name files of several
    formats, so it is enough if one of them has the setting: `text_field` is right where JSON Lines lie beside text.

    Raises:
        ConfigError: names the setting, the format and a file.
    """
    meaningful = frozenset().union(*(kind.settings for kind in FORMATS.values()))
    for number, settings in enumerate(config.inputs):
        first: dict[str, InputFile] = {}  # of each format, in the order of the files
        for file in files:
            if file.input == number and file.num_bytes:
                first.setdefault(file.format, file)
        used = frozenset().union(*(FORMATS[name].settings for name in first))
        for name in sorted(settings.model_fields_set & meaningful - used) if first else ():
            example = next(iter(first.values()))
            formats = " and ".join(first)
            raise ConfigError(
                f"inputs.{number}: {name} is set, but {formats} has no such setting: {example.source} is read as "
                f"{example.format}, {example.why}: leave {name} out, or set `format:`"
            )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Files of one input that are read as the same format for the same reason."""

    input: int
    format: str
    compression: str
    why: str
    num_files: int
    num_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return asdict(self)


def group_by_reason(files: Sequence[InputFile]) -> list[Group]:
    """What the files are and why, for the plan: a group for each input, format and reason, empty files left out."""
    groups: dict[tuple[int, str, str, str, str], list[InputFile]] = {}
    for file in files:
        if file.num_bytes:
            key = (file.input, file.format, file.compression, file.why.rule, file.compression_why)
            groups.setdefault(key, []).append(file)
    return [
        Group(
            input=number,
            format=name,
            compression=codec,
            why=_told(group),
            num_files=len(group),
            num_bytes=sum(file.num_bytes for file in group),
        )
        for (number, name, codec, rule, codec_why), group in sorted(groups.items())
    ]


def _told(group: Sequence[InputFile]) -> str:
    """Why these files are what they are; what was counted in each is added up."""
    first = group[0]
    why = Why(first.why.rule, sum(file.why.hits for file in group), sum(file.why.lines for file in group))
    return (
        f"{why}; {first.compression or 'compression'}: {first.compression_why}" if first.compression_why else str(why)
    )


def _grouped_warnings(files: Sequence[InputFile]) -> list[str]:
    """One line a warning, however many files it holds for."""
    sources: dict[str, list[str]] = {}
    for file in files:
        for warning in file.warnings:
            sources.setdefault(warning, []).append(file.source)
    return [f"{some(names)}: {warning}" for warning, names in sources.items()]


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
