"""The cache of a build, in `work/`: prepared units, trained tokenizers, payloads of signatures. Safe to delete.

Nothing of it is believed. Every file carries a hash of its content, beside it or in its name, which is checked before
the content is used; what fails is made again. So a flipped bit, a lost page or a half-copied folder costs time, and
never changes a dataset.

    prepared/<key>.arrow    a unit's documents; hashed at memory speed (MurmurHash3)
    prepared/<key>.json     written after it: the key's parts, counts, what was quarantined, the hash of the
                            Arrow file, and a checksum of itself
    tokenizers/<key>.json   a trained tokenizer and its alphabet, with a checksum
    signatures/<sha>.bin    what crosses between steps and is large, as signatures, or the plan of very many units:
                            named by its own SHA-256
    assembled/<key>-<hash>.json    what the unit of this key has become, with a checksum; the hash is of all else that
                            it depends on. Believed only while its shards are there and whole
    runs/<run>              a build that may publish: see `begin`
    runs/<run>.json         what it has published, reused, made and made again, until whoever waits for it has read that

It has a budget: see `evict`. When something was used last is the time of its files, which using them sets anew on a
local disk; in a bucket it is when they were written.
"""

import contextlib
import hashlib
import time
import uuid
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlm_data import ending
from mlm_data.dataset.seals import sealed, unseal
from mlm_data.errors import BuildError, FormatError, StorageError
from mlm_data.hashing import hash_buffer
from mlm_data.stores.folder import Folder
from mlm_data.tokens.alphabet import Alphabet
from mlm_data.tokens.train import Trained

Facts = dict[str, Any]

PREPARED, ASSEMBLED, TOKENIZERS, SIGNATURES = "prepared", "assembled", "tokenizers", "signatures"
RUNS, STATUS = "runs", "status"
STALE_SECONDS = 7 * 86400  # a sign that is a week old protects nothing
STILL_SECONDS = 5.0
_allowed: dict[tuple[str, str], float] = {}  # builds that might publish when this process last asked, monotonic clock


def write_unit(work: Folder, key: str, fill: Callable[[Any], object], facts: Callable[[], Facts]) -> Facts:
    """Write a prepared unit: its Arrow file by `fill(sink)`, then what `facts()` says of it.

    Returns:
        The facts, with `content`, the hash of the Arrow file's bytes.
    """
    work.create(fill, lambda _: _arrow(key), durable=False, hashed=False)
    found = facts() | {"content": hash_buffer(_read(work, _arrow(key)))}
    work.write(_json(key), sealed(found))
    return found


def unit_facts(work: Folder, key: str) -> Facts | None:
    """What stands beside a prepared unit; None where there is no such unit.

    Raises:
        FormatError: if the file is damaged.
    """
    if not work.exists(_json(key)):
        return None
    return unseal(work.read(_json(key)), f"{work.location}/{_json(key)}")


def check_unit(work: Folder, key: str) -> Facts | None:
    """`unit_facts` of a unit whose documents are whole, too.

    Raises:
        FormatError: if either file is damaged.
    """
    _use(work, _arrow(key), _json(key))
    facts = unit_facts(work, key)
    if facts is not None:
        _whole(work, key, facts["content"])
    return facts


def open_unit(work: Folder, key: str, content: str) -> pa.Table:
    """A prepared unit's documents, memory-mapped where the disk is local, and checked.

    Raises:
        BuildError: if they are damaged: something changed the cache while the build ran.
    """
    try:
        buffer = _whole(work, key, content)
        return pa.ipc.open_file(pa.BufferReader(buffer)).read_all()
    except FormatError as error:
        raise BuildError(f"{error}, while the build ran: start it again") from error


def keep_result(work: Folder, key: str, result: bytes) -> None:
    """Keep what a unit has become, as JSON, for a build that comes to the same; `key` begins with the unit's own."""
    data = sealed({"result": result.decode()})
    work.create(lambda sink: sink.write(data), lambda _: _result(key), durable=False, hashed=False)


def kept_result(work: Folder, key: str) -> bytes | None:
    """What `keep_result` was given; None where there is nothing, or it is damaged."""
    _use(work, _result(key))
    if not work.exists(_result(key)):
        return None
    try:
        return unseal(work.read(_result(key)), _result(key))["result"].encode()
    except FormatError:
        return None


def keys(work: Folder) -> list[str]:
    """The keys of all prepared units."""
    return [name.removesuffix(".json") for name in work.names(PREPARED) if name.endswith(".json")]


def remember_tokenizer(work: Folder, key: str, train: Callable[[], Trained]) -> Trained:
    """A tokenizer that was trained before, or is trained now."""
    name = f"{TOKENIZERS}/{key}.json"
    if work.exists(name):
        _use(work, name)
        try:
            facts = unseal(work.read(name), name)
            alphabet = facts["alphabet"]
            return Trained(facts["tokenizer"].encode(), alphabet and Alphabet(tuple(alphabet[0]), *alphabet[1:]))
        except FormatError:
            pass  # damaged: trained again
    trained = train()
    work.write(name, sealed({"tokenizer": trained.json_bytes.decode(), "alphabet": trained.alphabet}))
    return trained


def payload_name(data: bytes) -> str:
    """What `store_payload` calls a file of these bytes."""
    return f"{SIGNATURES}/{hashlib.sha256(data).hexdigest()}.bin"


def store_payload(work: Folder, data: bytes) -> str:
    """The name of a file that holds these bytes."""
    name = payload_name(data)
    _use(work, name)
    if not (work.exists(name) and work.read(name) == data):
        work.create(lambda sink: sink.write(data), lambda _: name, durable=False, hashed=False)
    return name


def load_payload(work: Folder, name: str) -> bytes:
    """The bytes of a file that `store_payload` wrote.

    Raises:
        BuildError: if it is damaged: something changed the cache while the build ran.
    """
    data = work.read(name)
    if payload_name(data) != name:
        raise BuildError(f"{work.location}/{name}: a byte was changed, while the build ran: start it again")
    return data


def new_name() -> str:
    """A name for a build."""
    return uuid.uuid4().hex


def begin(work: Folder, run: str = "") -> str:
    """The name of a build, a new one if it has none, which may publish as long as the file `sign` of it is there.

    So a job that a runner can't cancel is kept from publishing by `end`. Its file names the process that waits for it.
    """
    run = run or new_name()
    work.write(sign(run), ending.signature())
    return run


def clear_output(output: Folder) -> None:
    """Delete what killed builds have left in an output: temporary files, and what says that they may publish."""
    work = output.join("work")
    output.clear()
    work.clear()
    clear(work)


def clear(work: Folder) -> None:
    """Take away the signs and notes of builds whose process is known to be gone: they were killed.

    Those of other machines go when they, and what `status` has of their builds, were not written to for a day. A job
    that a dead process has started elsewhere doesn't publish any more.
    """
    names = work.names(RUNS)
    beats = _beats(work) if names else {}
    for run in sorted({name.removesuffix(".json") for name in names}):
        written = max(work.changed(sign(run)), work.changed(_note(run)), beats.get(run, 0.0))
        if ending.is_left(owner_of(work, run), written):
            end(work, run)


def owner_of(work: Folder, run: str) -> str:
    """The process that waits for a build, as `ending.owner` names it; "" if nothing says so."""
    return ending.signed_by(work.read(sign(run))) if work.exists(sign(run)) else ""


def _beats(work: Folder) -> dict[str, float]:
    """When builds that run here were last heard of, by run."""
    found: dict[str, float] = {}
    for name in work.names(STATUS):
        with contextlib.suppress(FormatError, StorageError):
            facts = unseal(work.read(f"{STATUS}/{name}"), name)
            run = str(facts.get("run", ""))
            found[run] = max(found.get(run, 0.0), work.changed(f"{STATUS}/{name}"))
    return found


def sign(run: str) -> str:
    """The file that says that a build may publish."""
    return f"{RUNS}/{run}"


def end(work: Folder, run: str) -> None:
    """Whatever still works for this build must not publish any more; what it has noted is forgotten."""
    work.delete(sign(run))
    work.delete(_note(run))


def check_sign(work: Folder, run: str) -> None:
    """Make sure that a build may publish; "" is one that nobody waits for, such as a job from a template.

    Raises:
        BuildError: it was interrupted, or `work/` was deleted.
    """
    if run and not work.exists(sign(run)):
        raise BuildError(f"{work.location}: this build was interrupted, so it doesn't publish: start it again to go on")


def check_still(work: Folder, run: str) -> None:
    """`check_sign` for a worker, before it begins something or writes a file: a runner may not be able to stop it.

    In a bucket, where it is a request, it is asked at most every `STILL_SECONDS`.

    Raises:
        BuildError: it may no longer publish, so there is nothing to work for.
    """
    now, key = time.monotonic(), (work.location, run)
    if work.is_local or now - _allowed.get(key, -STILL_SECONDS) >= STILL_SECONDS:
        check_sign(work, run)
        if key not in _allowed:
            _allowed.clear()  # of earlier builds
        _allowed[key] = now


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something in the cache that goes as a whole: the files of one key."""

    names: tuple[str, ...]  # what says that it is there comes first
    num_bytes: int
    used: float  # when last, in seconds since the epoch, by the clock of the disk or bucket


def entries(work: Folder) -> list[Entry]:
    """All that the cache holds, what was used longest ago first."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for name, info in work.walk():
        if name.partition("/")[0] in (PREPARED, ASSEMBLED, TOKENIZERS, SIGNATURES):
            found.setdefault(name.partition(".")[0], []).append((name, info))
    made = [
        Entry(
            names=tuple(sorted((name for name, _ in files), key=lambda name: not name.endswith(".json"))),
            num_bytes=sum(info.size for _, info in files),
            used=max((info.mtime_ns or 0) / 1e9 for _, info in files),
        )
        for files in found.values()
    ]
    return sorted(made, key=lambda entry: (entry.used, entry.names))


def began(work: Folder, *, besides: str = "") -> float:
    """When the first of the builds that may still publish has begun, but for `besides`; infinity where there is none.

    By the clock that `Entry.used` is of.
    """
    signs = [work.changed(sign(run)) for run in work.names(RUNS) if run != besides and not run.endswith(".json")]
    newest = max([*signs, work.changed(sign(besides)) if besides else 0.0])
    return min((start for start in signs if newest - start < STALE_SECONDS), default=float("inf"))


def evict(work: Folder, max_bytes: int, *, besides: str = "", keep: Container[str] = ()) -> int:
    """Delete what was used longest ago, until the cache has at most `max_bytes`; returns how many bytes went.

    What a running build has used or made stays. What it has not looked at yet may go: it is made again.

    Args:
        work: the cache.
        max_bytes: how much may stay, if no running build needs more.
        besides: a build that needs nothing any more.
        keep: keys of prepared units that stay, and what they have become.
    """
    found = entries(work)
    total, gone, until = sum(entry.num_bytes for entry in found), 0, began(work, besides=besides)
    for entry in found:
        if total - gone <= max_bytes or entry.used >= until:
            break
        key = entry.names[0].partition("/")[2].partition(".")[0].partition("-")[0]
        if key in keep or max(work.changed(name) for name in entry.names) > entry.used:
            continue  # wanted, or used since we looked
        for name in entry.names:
            work.delete(name)
        gone += entry.num_bytes
    return gone


def note(work: Folder, run: str, facts: Mapping[str, Any]) -> None:
    """Note what a build has done, for whoever started it: any runner can do that. Nobody waits for the build ""."""
    if run:
        work.write(_note(run), sealed({"run": run, **facts}))


def noted(work: Folder, run: str) -> Facts:
    """What `note` wrote of this build; empty where there is nothing, or it is damaged."""
    name = _note(run)
    try:
        facts = unseal(work.read(name), name) if work.exists(name) else {}
    except FormatError:
        return {}
    return facts if facts.get("run") == run else {}


def _note(run: str) -> str:
    return f"{sign(run)}.json"


def _use(work: Folder, *names: str) -> None:
    """Note that these files are used now, before they are looked at: so nobody deletes them meanwhile."""
    for name in names:
        work.touch(name)


def _arrow(key: str) -> str:
    return f"{PREPARED}/{key}.arrow"


def _json(key: str) -> str:
    return f"{PREPARED}/{key}.json"


def _result(key: str) -> str:
    return f"{ASSEMBLED}/{key}.json"


def _read(work: Folder, name: str) -> pa.Buffer:
    with work.open(name) as stream:
        return stream.read_buffer()


def _whole(work: Folder, key: str, content: str) -> pa.Buffer:
    where = f"{work.location}/{_arrow(key)}"
    if not work.exists(_arrow(key)):
        raise FormatError(f"{where}: missing")
    buffer = _read(work, _arrow(key))
    if hash_buffer(buffer) != content:
        raise FormatError(f"{where}: a byte was changed")
    return buffer
