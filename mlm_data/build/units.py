"""From globs to units: what there is to read, and how it is shared out.

    inputs -> files, sorted by source -> slices (parts that can be read alone) -> units (about unit_bytes each)

A file's *source* is its path below the part of the glob that has no wildcards, after the input's `name`: the same on
every machine. Large files that can be cut are cut every unit_bytes, and each piece is a unit. Small ones are grouped in
the order of their sources, so that one new file changes one unit and not all that follow:

    sources    a  b  c  d  e  f  g       a group ends behind a file whose source hashes to 0 mod m (here c, f)
    groups    [a  b  c][d  e  f][g]      and one above unit_bytes is cut behind its file of the smallest hash, and so on

Both borders depend on the files around them alone. With m = unit_bytes / mean size a group has about unit_bytes
before it is cut. unit_bytes is total / 64, between 1 and 64 MiB; it and m are fixed in a dataset's first manifest.
The number of workers never enters.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlm_data.config import BuildConfig
from mlm_data.errors import InputError
from mlm_data.hashing import hash_bytes
from mlm_data.text.formats import FORMATS
from mlm_data.text.identify import InputFile
from mlm_data.text.inputs import find_files, some
from mlm_data.types import Slice, Unit

UNITS_WANTED = 64
MIN_UNIT_BYTES, MAX_UNIT_BYTES = 1 << 20, 64 << 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build reads. The same inputs give the same plan, wherever they lie."""

    units: tuple[Unit, ...]
    unit_bytes: int
    group_modulus: int
    warnings: tuple[str, ...]
    files: tuple[InputFile, ...]  # empty ones too, in order of their sources
    skipped: tuple[str, ...] = ()  # sources that are known

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


def plan_units(
    config: BuildConfig,
    *,
    unit_bytes: int | None = None,
    group_modulus: int | None = None,
    known: Container[str] = (),
) -> Plan:
    """Find the files and share them out.

    Args:
        unit_bytes, group_modulus: those of a dataset's first manifest, so that its units stay as they are.
        known: sources that are not to be read; there may be no unit, then.

    Raises:
        ConfigError: two files with one source, an unknown encoding.
        InputError: no file matches, none can be read, all are empty, or more compressed files than may lack their end.
    """
    files, warnings = find_files(config)
    skipped = tuple(file.source for file in files if file.source in known)
    files = [file for file in files if file.source not in known]
    full = [file for file in files if file.num_bytes and file.parts]
    empty = [file.source for file in files if not (file.num_bytes and file.parts)]
    if not full and not skipped:
        raise InputError(f"nothing to read: {some(empty)} {'is' if len(empty) == 1 else 'are'} empty")
    if empty:
        warnings = [*warnings, f"{len(empty)} empty file{'s' * (len(empty) > 1)} skipped: {some(empty)}"]
    if cut := [file.path for file in full if file.is_cut]:
        message = f"{some(cut)} {'lacks its' if len(cut) == 1 else 'lack their'} end: download it again"
        if len(cut) > config.max_truncated:
            raise InputError(f"{message}, or set max_truncated: {len(cut)} to go on with what can be read")
        warnings = [*warnings, message]
    if unit_bytes is None:
        total = sum(file.num_bytes for file in full)
        unit_bytes = config.unit_bytes or min(MAX_UNIT_BYTES, max(MIN_UNIT_BYTES, total // UNITS_WANTED))
    large = [file for file in full if file.can_split and file.num_bytes > unit_bytes]
    small = [file for file in full if not (file.can_split and file.num_bytes > unit_bytes)]
    if group_modulus is None:
        group_modulus = max(1, unit_bytes * len(small) // max(1, sum(file.num_bytes for file in small)))
    groups = [[_slice(file, 0, None) for file in group] for group in group_files(small, unit_bytes, group_modulus)]
    groups += [[piece] for file in large for piece in split_file(file, unit_bytes)]
    groups.sort(key=lambda group: (group[0].source, group[0].start))
    units = tuple(Unit(index=i, slices=tuple(group)) for i, group in enumerate(groups))
    return Plan(
        units=units,
        unit_bytes=unit_bytes,
        group_modulus=group_modulus,
        warnings=tuple(warnings),
        files=tuple(files),
        skipped=skipped,
    )


def group_files(files: Sequence[InputFile], unit_bytes: int, modulus: int) -> list[list[InputFile]]:
    """Runs of files, each one unit: see the module's rule."""
    runs: list[list[InputFile]] = [[]]
    hashes = {file.source: hash_bytes(file.source.encode()) for file in files}
    for file in files:
        runs[-1].append(file)
        if hashes[file.source] % modulus == 0:
            runs.append([])
    todo, groups = [run for run in reversed(runs) if run], []
    while todo:
        run = todo.pop()
        if len(run) < 2 or sum(file.num_bytes for file in run) <= unit_bytes:
            groups.append(run)
            continue
        cut = 1 + min(range(len(run) - 1), key=lambda i: hashes[run[i].source])
        todo += [run[cut:], run[:cut]]
    return groups


def split_file(file: InputFile, unit_bytes: int) -> list[Slice]:
    """Slices of about unit_bytes; a last piece below half of that goes with the one before."""
    if FORMATS[file.format].has_parts:
        step = max(1, unit_bytes * file.parts // file.num_bytes)
        end = file.parts
    else:
        step, end = unit_bytes, file.num_bytes
    borders = [*range(0, max(1, end - step // 2), step), end]
    return [_slice(file, first, last) for first, last in pairwise(borders)]


def whole_file(file: InputFile) -> Slice:
    """All of a file, as one slice."""
    return _slice(file, 0, None)


def _slice(file: InputFile, start: int, end: int | None) -> Slice:
    has_parts = FORMATS[file.format].has_parts
    whole = file.parts if has_parts else file.num_bytes
    end = whole if end is None else end
    num_bytes = file.num_bytes * end // whole - file.num_bytes * start // whole if has_parts else end - start
    return Slice(
        input=file.input,
        source=file.source,
        path=file.path,
        format=file.format,
        compression=file.compression,
        start=start,
        end=end,
        num_bytes=num_bytes,
        identity=file.identity,
    )
