"""The one file that describes a build: `premask.yaml`, read into frozen, checked settings.

`load_config` reads YAML 1.2, applies overrides (`mask.rate=0.15`) and returns a `BuildConfig` or raises one
`ConfigError` whose line names the field, the value and the remedy. `semantic` is the part of a configuration that
the dataset's bytes may depend on: it enters the digest. Names, places, engines and workers do not.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pydantic
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlm_data.errors import ConfigError

Compression = Literal["none", "zstd", "lz4"]


class Settings(BaseModel):
    """Base of all configurations, the trainer's too: frozen, keyword-only, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class InputSettings(Settings):
    """Files to read. `path` may be a glob (`**` crosses folders); it is relative to the configuration's folder."""

    path: str
    name: str = ""  # put before the files' relative paths where two inputs would have equal ones
    format: Literal["auto", "text", "jsonl", "json", "csv", "tsv", "fasta", "parquet", "arrow"] = "auto"
    documents: Literal["file", "line", "paragraph"] = "file"  # text only; a paragraph ends at an empty line
    encoding: str = "utf-8"  # a byte order mark wins over it
    text_field: str | tuple[str, ...] = "text"
    """The field that holds the text; several are joined by a blank line, those that are null or absent left out.
    "a.b" means field b of the object in field a, here and in the two below; "a[].b" field b of each object in the list
    in field a. A list of strings is joined by blank lines, too."""
    id_field: str | None = None
    keep_fields: tuple[str, ...] = ()
    delimiter: str | None = None
    """What stands between the fields of a CSV or TSV file: one ASCII character. Default: a comma, in TSV a tab."""

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in '"\r\n\0'):
            raise ValueError(f"must be one ASCII character, and no quote or line end, got {value!r}: ';' or '\\t'")
        return value

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is younger than datasets and caches that are to stay as they are, where it isn't used."""
        values = serialize(self)
        if values.get("delimiter") is None:
            values.pop("delimiter", None)
        return values

    @field_validator("text_field")
    @classmethod
    def _text_field(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, str):
            return value
        if not value:
            raise ValueError("name at least one field")
        if len(set(value)) < len(value):
            raise ValueError(f"names a field twice: {', '.join(value)}")
        return value if len(value) > 1 else value[0]

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The fields that make the text, in order."""
        return (self.text_field,) if isinstance(self.text_field, str) else self.text_field


class TokenizerTraining(Settings):
    """How to train a tokenizer. Training the same inputs again gives the same file."""

    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece"
    vocab_size: int = Field(default=8192, ge=64, le=2**31 - 1)
    lowercase: bool = True  # wordpiece only: lower case and no accents, as in uncased BERT
    sample_bytes: int = Field(default=256 * 2**20, ge=1)  # text to train on, chosen by hash


class SpecialTokens(Settings):
    """Which token plays which role; None: detect it."""

    cls: str | None = None
    sep: str | None = None
    pad: str | None = None
    mask: str | None = None
    unk: str | None = None


class TokenizerSettings(Settings):
    """Either `path` (a tokenizer.json, or a BERT vocab.txt) or `train`."""

    path: str | None = None
    train: TokenizerTraining | None = None
    special: SpecialTokens = SpecialTokens()
    engine: Literal["auto", "words", "huggingface"] = "auto"

    @model_validator(mode="after")
    def _one_source(self) -> "TokenizerSettings":
        if (self.path is None) == (self.train is None):
            raise ValueError("give either `path` (a tokenizer.json) or `train` (kind, vocab_size), and not both")
        return self


class CleanSettings(Settings):
    """What happens to each text before it is hashed: its document id is the hash of the result."""

    unicode: Literal["NFC", "none"] = "NFC"
    min_chars: int = Field(default=100, ge=0)
    bad_bytes: Literal["quarantine", "replace"] = "quarantine"  # replace: U+FFFD for each bad sequence


class DeduplicateSettings(Settings):
    """Which copies are dropped. The first in reading order stays."""

    exact: bool = True


class PackSettings(Settings):
    """How documents fill rows."""

    sequence_length: int = 512
    long_documents: Literal["split", "truncate"] = "split"
    max_segments: int | None = Field(default=None, ge=1)  # per row; default L / 32, at least 8

    @field_validator("sequence_length")
    @classmethod
    def _length(cls, value: int) -> int:
        if value % 8 or not 16 <= value <= 65536:
            down, up = max(16, value // 8 * 8), max(16, min(65536, -(-value // 8) * 8))
            raise ValueError(
                f"must be a multiple of 8 between 16 and 65536, got {value}: use "
                + (f"{down}" if down == up else f"{down} or {up}")
            )
        return value

    @property
    def segments_per_row(self) -> int:
        """The largest number of segments that a row may hold."""
        return self.max_segments or max(8, self.sequence_length // 32)


class MaskSettings(Settings):
    """How each plane hides tokens. Rates count in millionths, so that floor(rate * n) is exact."""

    planes: int = Field(default=4, ge=1, le=1024)
    kind: Literal["token", "whole_word", "span"] = "token"
    rate: float | tuple[float, ...] = 0.30  # one for all planes, or one for each
    mask_share: float = Field(default=0.8, ge=0, le=1)
    random_share: float = Field(default=0.1, ge=0, le=1)
    keep_share: float = Field(default=0.1, ge=0, le=1)

    @field_validator("rate")
    @classmethod
    def _rate(cls, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
        for rate in value if isinstance(value, tuple) else (value,):
            if not 0.000_001 <= rate <= 0.95:
                raise ValueError(f"must be above 0 and at most 0.95, got {rate:g}: 0.15 and 0.30 are usual")
        return value

    @model_validator(mode="after")
    def _adds_up(self) -> "MaskSettings":
        total = self.mask_share + self.random_share + self.keep_share
        if abs(total - 1) > 1e-6:
            raise ValueError(f"mask_share + random_share + keep_share must be 1, got {total:g}")
        if isinstance(self.rate, tuple) and len(self.rate) != self.planes:
            raise ValueError(f"rate has {len(self.rate)} values for {self.planes} planes: give one for each")
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """One rate per plane."""
        return self.rate if isinstance(self.rate, tuple) else (self.rate,) * self.planes


class SplitSettings(Settings):
    """What is held out: chosen by a hash threshold, so that a document never changes sides."""

    validation: float = Field(default=0.01, ge=0, lt=1)  # 0: no validation split is wanted
    by: str = "document"  # document | source | a keep_field


class CacheSettings(Settings):
    """How a file is known to be unchanged: by size and mtime (or etag), or by its bytes."""

    identity: Literal["stat", "content"] = "stat"


class BuildConfig(Settings):
    """One build, whole."""

    name: str = "dataset"
    inputs: tuple[InputSettings, ...] = Field(min_length=1)
    output: str
    tokenizer: TokenizerSettings
    clean: CleanSettings = CleanSettings()
    deduplicate: DeduplicateSettings = DeduplicateSettings()
    pack: PackSettings = PackSettings()
    mask: MaskSettings = MaskSettings()
    split: SplitSettings = SplitSettings()
    cache: CacheSettings = CacheSettings()
    seed: int = Field(default=0, ge=0, lt=2**63)
    max_quarantined: float = Field(default=0.01, ge=0, le=1)
    """The share of the documents, and of the bytes, that may be unreadable; above it the build fails."""
    max_truncated: int = Field(default=0, ge=0)
    """How many files may break off in the middle (compressed ones, arrays of JSON); above it the build fails. Such a
    file counts as one document, whatever it has lost, so that `max_quarantined` alone would not notice a download that
    ended early."""
    compression: Compression = "none"  # of the published files; none can be memory-mapped
    unit_bytes: int | None = Field(default=None, ge=1024)  # default: total / 64, between 1 and 64 MiB

    @model_validator(mode="after")
    def _split_field(self) -> "BuildConfig":
        kept = {field for item in self.inputs for field in item.keep_fields}
        if self.split.by not in {"document", "source"} | kept:
            raise ValueError(f"split.by: {self.split.by!r} is neither document, source nor one of keep_fields")
        return self


S = TypeVar("S", bound=Settings)


def parse_settings(kind: type[S], values: Mapping[str, Any], *, where: str) -> S:
    """Check plain values against a settings class.

    Raises:
        ConfigError: one line for all that is wrong; unknown fields name the nearest known one.
    """
    try:
        return kind.model_validate(dict(values))
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False)
        inner = {problem["loc"][:1] for problem in problems if len(problem["loc"]) > 1}
        # A list whose items failed is also reported as too short: that is no news.
        told = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inner]
        lines = [_describe(kind, problem) for problem in told]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from None


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> BuildConfig:
    """Read a build's YAML file and apply `field=value` overrides.

    Relative paths in it are taken from the file's own folder.

    Raises:
        ConfigError: for a missing file, YAML that does not parse, or a value that can't be right.
    """
    values = apply_overrides(read_yaml(path), overrides)
    return anchor(parse_settings(BuildConfig, values, where=str(path)), Path(path).resolve().parent)


def anchor(config: BuildConfig, folder: Path) -> BuildConfig:
    """Make the relative paths of a configuration absolute, from `folder`."""

    def absolute(value: str) -> str:
        return value if "://" in value or value.startswith("/") else str(folder / value)

    tokenizer = config.tokenizer
    if tokenizer.path is not None:
        tokenizer = tokenizer.model_copy(update={"path": absolute(tokenizer.path)})
    inputs = tuple(item.model_copy(update={"path": absolute(item.path)}) for item in config.inputs)
    return config.model_copy(update={"inputs": inputs, "output": absolute(config.output), "tokenizer": tokenizer})


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML 1.2 file's mapping as plain types.

    Raises:
        ConfigError: if the file is missing, unreadable, no YAML or no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: can't read the configuration: {reason}") from error
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, *, where: str) -> dict[str, Any]:
    """`read_yaml` for a text."""
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}{place}: not valid YAML: {problem}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected `field: value` lines, got a {type(values).__name__}")
    return values


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Set dotted fields: `mask.rate=0.15`, `inputs.0.path=x`. The value is read as YAML.

    >>> apply_overrides({"mask": {"planes": 4}}, ["mask.rate=0.15"])
    {'mask': {'planes': 4, 'rate': 0.15}}
    """
    values = _deep_copy(values)
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator or not name:
            raise ConfigError(f"--set {override}: write it as field=value, for example mask.rate=0.15")
        value = parse_yaml(f"value: {text}", where=f"--set {override}")["value"]
        *parents, last = name.split(".")
        place: Any = values
        for parent in parents:
            place = _step(place, parent, override)
        if isinstance(place, list):
            place[_index(place, last, override)] = value
        else:
            place[last] = value
    return values


def semantic(config: BuildConfig) -> dict[str, Any]:
    """The part of a configuration that the dataset's bytes may depend on, as plain JSON types."""
    full = config.model_dump(mode="json")
    for field in ("name", "output", "cache", "compression", "unit_bytes", "max_quarantined", "max_truncated"):
        del full[field]
    for item in full["inputs"]:
        del item["path"]
    del full["tokenizer"]["engine"], full["tokenizer"]["path"]
    full["pack"]["max_segments"] = config.pack.segments_per_row
    full["mask"]["rate"] = list(config.mask.rates)
    return full


def _describe(kind: type[BaseModel], problem: Mapping[str, Any]) -> str:
    names = [str(part) for part in problem["loc"] if not _is_union_tag(part)]
    field = ".".join(names)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(kind, names[:-1])
        nearest = difflib.get_close_matches(names[-1], known, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(known)}"
        return f"unknown field {field!r}: {hint}"
    if problem["type"] == "missing":
        return f"{field!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:] if message else message
    if problem["type"] != "value_error":
        message += f", got {problem['input']!r}"
    return f"{field}: {message}" if field else message


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and (part in {"float", "int", "str"} or part.startswith("tuple["))


def _fields_at(kind: type[BaseModel], names: list[str]) -> list[str]:
    for name in names:
        if name.isdigit():
            continue
        annotation = kind.model_fields[name].annotation
        options = [annotation, *get_args(annotation)]
        kind = next(item for item in options if isinstance(item, type) and issubclass(item, BaseModel))
    return list(kind.model_fields)


def _step(place: Any, name: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, name, override)]
    inner = place.get(name)
    if not isinstance(inner, dict | list):
        inner = place[name] = {}
    return inner


def _index(place: list[Any], name: str, override: str) -> int:
    if not name.isdigit() or int(name) >= len(place):
        raise ConfigError(f"--set {override}: {name!r} is no index of a list of {len(place)}")
    return int(name)


def _deep_copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _deep_copy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_deep_copy(inner) for inner in value]
    return value
