"""Settings as they are written down and checked: frozen models, YAML 1.2, overrides; one line for whatever is wrong."""

import ast
import difflib
import inspect
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlm_data.errors import ConfigError


class Settings(BaseModel):
    """Base of all configurations, the trainer's too: frozen, keyword-only, unknown fields refused.

    The string below a field is its description, from which docs/reference is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    # Fields that are younger than datasets and caches which are to stay as they are: no dump has them at their default.
    YOUNGER: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = serialize(self)
        for name in self.YOUNGER & values.keys():
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                del values[name]
        return values

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """What the string below each field says, on one line.

        The source is read when somebody asks. Pydantic's `use_attribute_docstrings` reads it at every import, which
        made that of this module a tenth slower.
        """
        (definition,) = ast.parse(inspect.getsource(cls)).body
        assert isinstance(definition, ast.ClassDef)
        return {
            field.target.id: " ".join(below.value.value.split())
            for field, below in pairwise(definition.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        }


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
