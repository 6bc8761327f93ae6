"""A corpus that every machine with Python has: documentation topics and docstrings.

The standard library comes first, then the installed packages in the order of a hash of their files' names, until there
is enough. Files are parsed, never imported. A docstring most of whose lines have stood elsewhere before is left out:
such families of copies teach little, and one would stand in training while its twin is held out.
"""

import ast
import hashlib
import json
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from mlm_data.stores.folder import Folder, Written

MIN_CHARS = 80  # shorter docstrings say little that a reader could guess from


def write_demo_corpus(
    path: str | Path, *, max_bytes: int = 20 * 10**6, workers: int = 2, progress: Callable[[int], None] | None = None
) -> Written:
    """Write JSONL about `max_bytes` long: `text`, `url` (where it was found), `module` (its file), `kind`.

    Returns:
        name, size and SHA-256 of the file, which appears whole or not at all.
    """
    path = Path(path)

    def fill(sink) -> None:
        for line in _lines(_sources(), workers):
            if sink.num_bytes + len(line) > max_bytes:
                break
            sink.write(line)
            if progress:
                progress(sink.num_bytes)

    return Folder(path.parent).create(fill, lambda _: path.name)


def topics() -> Iterator[dict[str, str]]:
    """The language reference's topics, as `help()` shows them."""
    from pydoc_data.topics import topics as texts

    for name in sorted(texts):
        yield {"text": texts[name], "url": f"pydoc:{name}", "module": f"pydoc:{name}", "kind": "topic"}


def docstrings(path: Path, name: str) -> list[dict[str, str]]:
    """Docstrings of a module, its classes and functions; [] for a file that does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if len(text) >= MIN_CHARS:
                inner = getattr(node, "name", "")
                url = f"{name}#{inner}" if inner else name
                found.append({"text": text, "url": url, "module": name, "kind": "docstring"})
    return found


def _sources() -> list[tuple[Path, str]]:
    standard, packages = Path(sysconfig.get_paths()["stdlib"]), Path(sysconfig.get_paths()["purelib"])

    def modules(root: Path) -> list[tuple[Path, str]]:
        found = ((path, path.relative_to(root).as_posix()) for path in root.rglob("*.py"))
        return [(path, name) for path, name in found if packages == root or "site-packages" not in name]

    own = sorted(modules(standard), key=lambda item: item[1])
    others = sorted(modules(packages), key=lambda item: hashlib.sha256(item[1].encode()).digest())
    return own + others


def _lines(sources: Iterable[tuple[Path, str]], workers: int) -> Iterator[bytes]:
    seen: set[bytes] = set()
    sources = list(sources)
    with ProcessPoolExecutor(workers) as pool:
        chunks = [sources[start : start + 64] for start in range(0, len(sources), 64)]
        try:
            yield from _encode(topics(), seen)
            for documents in pool.map(_docstrings_of, chunks):
                yield from _encode(documents, seen)
        finally:
            pool.shutdown(cancel_futures=True)


def _docstrings_of(sources: list[tuple[Path, str]]) -> list[dict[str, str]]:
    return [document for path, name in sources for document in docstrings(path, name)]


def _encode(documents: Iterable[dict[str, str]], seen: set[bytes]) -> Iterator[bytes]:
    for document in documents:
        # A docstring may hold a lone surrogate, which UTF-8 can't.
        text = document["text"].encode("utf-8", "replace")
        lines = {hashlib.sha256(line.strip()).digest()[:8] for line in text.splitlines() if len(line.strip()) > 20}
        new = lines - seen
        seen |= new
        if 2 * len(new) > len(lines):
            yield json.dumps({**document, "text": text.decode()}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
