"""The shapes in signatures are checked while tests run: `Int32[np.ndarray, " rows"]` is then more than a comment.

jaxtyping's own import hook puts its check beneath every other decorator, so that numba would have to compile it, and
on every function, shapes or not. This one looks at what a module holds once it is imported: functions and methods whose
annotations name a shape get the check; kernels, which are no functions then, stay as they are.

`pieces+1` can be checked only where an argument before it says what `pieces` is; elsewhere it is any number.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from inspect import isclass
from operator import or_
from types import FunctionType, ModuleType, UnionType
from typing import Any, get_args, get_origin

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped


def install(packages: Sequence[str]) -> None:
    """From now on the modules of these packages are checked when they are imported."""
    early = [name for name in sys.modules if name.partition(".")[0] in packages]
    assert not early, f"imported before their shapes could be checked: {early}"
    sys.meta_path.insert(0, _Finder(packages))


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in self._packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        check(module)


def check(module: ModuleType) -> None:
    """Check the shapes in the signatures of everything that a module defines."""
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) == module.__name__ and isclass(value):
            _check_members(value, vars(value))
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    _check_members(module, own)


def _check_members(owner: Any, members: Mapping[str, Any]) -> None:
    """Functions and methods; the `__init__` of a dataclass and the `__new__` of a named tuple are among them."""
    for name, member in list(members.items()):
        is_wrapped = isinstance(member, (staticmethod, classmethod))
        function = member.__func__ if is_wrapped else member
        if isinstance(function, FunctionType) and any(map(_is_shape, function.__annotations__.values())):
            _keep_shapes(function)
            checked = jaxtyped(function, typechecker=beartype)
            setattr(owner, name, type(member)(checked) if is_wrapped else checked)


def _is_shape(annotation: Any) -> bool:
    if isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(_is_shape(part) for part in get_args(annotation))


def _keep_shapes(function: FunctionType) -> None:
    """Leave only the shapes among a function's annotations, in place: stand-ins for other types are a test's right."""
    known: set[str] = set()
    shapes = {name: annotation for name, annotation in function.__annotations__.items() if _is_shape(annotation)}
    function.__annotations__ = {name: _loose(annotation, known) for name, annotation in shapes.items()}


def _loose(annotation: Any, known: set[str]) -> Any:
    """The annotation, with any length for axes that are computed from what isn't `known`; adds the axes it names."""
    if isclass(annotation) and issubclass(annotation, AbstractArray):
        axes = annotation.dim_str.split()
        known |= {axis for axis in axes if axis.isidentifier()}
        loose = ["_" if set(re.findall(r"[a-z_]+", axis)) - known else axis for axis in axes]
        return annotation.dtype[annotation.array_type, " ".join(loose)]
    if not _is_shape(annotation):
        return annotation
    origin = get_origin(annotation)
    if origin is UnionType:  # it may be None, and then names nothing
        return reduce(or_, [_loose(part, set(known)) for part in get_args(annotation)])
    return origin[tuple(_loose(part, known) for part in get_args(annotation))]


@contextmanager
def unchecked() -> Iterator[None]:
    """For tests that damage arrays on purpose: what the code says to them is asked, not what the check says."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
