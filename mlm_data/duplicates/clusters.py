"""Near duplicates: who meets in a band, who is near enough, and who of them stays.

Each band of a sketch (`minhash`) is a record of 16 bytes, gathered by a partition of the key, so that equal keys meet.
Within one partition `find_edges` looks only at *buckets*, keys that occur twice or more:

1. Equal ids mean equal texts. Where exact duplicates are dropped, too, only the first of them by (unit, document) takes
   part: the one that `exact` keeps, so that neither rule drops what the other one kept.
2. Documents of a bucket are taken in the order of their *rank*: number of the input, longer first, id, unit, document.
3. Each is compared with the leaders of its bucket. Where the sketches agree in enough places, the document has an
   *edge* to that leader; a document without an edge becomes a leader, up to MAX_LEADERS of them.

Then `resolve` takes the edges of all partitions: a document is dropped if it has an edge to one that *stays*. Nothing
is closed transitively, so that a family can't eat its neighbours by a chain, and of each family one stays:

    A ~ B, B ~ C, A !~ C, in this order:    B is dropped because of A.  C had only B, which doesn't stay: C stays.

An edge leads to a document of smaller rank, so there is one answer, whatever the order of records, edges and
partitions. Which of several that stay is named: the most similar, then the first by (unit, document).

Two sketches of k places agree at m of them. At 8 bits a place k / 256 of those that differ agree by chance, too.
Corrected, J = (m - k / 256) / (k - k / 256), which is (256 m - k) / k in 255ths. So estimates are kept in 255ths, and
comparisons are of integers.

Cost of a partition: one sort of its records; for those in buckets at most MAX_LEADERS comparisons of a sketch, however
large a bucket is. Memory: the records, and for each document in a bucket its sketch and 40 bytes.
`resolve`: one sort of the edges, about 100 bytes each; they grow in number as near duplicates do, not as documents.

What is lost: a document beyond the leaders of a crowded bucket is not compared there (it has other bands); and where a
leader is dropped for the sake of a third, those that had an edge to it are kept though they may resemble each other.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8, UInt64

from mlm_data.errors import ConfigError
from mlm_data.hashing import Hashes
from mlm_data.kernels import grown, kernel

MAX_LEADERS = 8
HELD = -1  # the input of documents that a version holds: they stay, and are not compared with each other

BAND = np.dtype([("key", "<u8"), ("unit", "<i4"), ("document", "<i4")])
Bands = np.ndarray  # of BAND

# Document (unit, document) resembles (kept_unit, kept_document), which has the smaller rank, by estimate / 255.
EDGE = np.dtype(
    [("unit", "<i4"), ("document", "<i4"), ("kept_unit", "<i4"), ("kept_document", "<i4"), ("estimate", "u1")]
)
Edges = np.ndarray  # of EDGE


class Members(NamedTuple):
    """What is known of some documents of a unit, in the order in which they were asked for."""

    input: Int32[np.ndarray, " documents"]  # number of the input: whose documents stay first; HELD for those that do
    length: Int64[np.ndarray, " documents"]  # in characters: the longer stays
    ids: Hashes
    values: UInt8[np.ndarray, " documents size"]  # sketches


Load = Callable[[int, Int32[np.ndarray, " documents"]], Members]  # (unit, its documents, sorted)


def pack_bands(
    keys: UInt64[np.ndarray, " documents bands"],
    unit: int,
    documents: Int64[np.ndarray, " documents"] | Int32[np.ndarray, " documents"],
    num_shingles: Int64[np.ndarray, " documents"],
) -> Bands:
    """Records of the documents of one unit that have any shingle: without words there is nothing to compare."""
    has_words = num_shingles > 0
    keys, documents = keys[has_words], documents[has_words]
    records = np.empty(keys.shape, BAND)
    records["key"], records["unit"], records["document"] = keys, unit, documents[:, None]
    return records.reshape(-1)


def min_agreeing(size: int, verify: float) -> int:
    """At how many of `size` places two sketches must agree for an estimated Jaccard similarity of `verify`.

    >>> min_agreeing(112, 0.7)
    79

    Raises:
        ConfigError: if verify is outside (0, 1].
    """
    if not 0 < verify <= 1:
        raise ConfigError(f"verify must be above 0 and at most 1, got {verify}")
    # 256 m - size >= 255 verify size; a billionth of a place is rounding of verify.
    return math.ceil((255 * verify * size + size) / 256 - 1e-9)


def find_edges(records: Bands, load: Load, *, verify: float, collapse_equal: bool) -> Edges:
    """Edges among the documents of one partition, each once, sorted by (unit, document, kept_unit, kept_document).

    `load` is asked once for each unit that has documents in buckets, units in order. `collapse_equal` says that exact
    duplicates are dropped, too. `verify` is the least estimated Jaccard similarity of an edge.
    """
    some = _in_buckets(records)
    codes, member = np.unique(_code(some["unit"], some["document"]), return_inverse=True)
    if len(codes) == 0:
        return np.empty(0, EDGE)
    units, documents = (codes >> np.uint64(32)).astype(np.int32), codes.astype(np.uint32).astype(np.int32)
    members = _load_all(units, documents, load)
    rank = _ranks(members)
    takes_part = _first_of_equals(members.ids) if collapse_equal else np.ones(len(codes), np.bool_)
    chosen = takes_part[member]
    some, member = some[chosen], member[chosen].astype(np.int64)
    order = np.lexsort((rank[member], some["key"]))
    keys, member = some["key"][order], member[order]
    fewest = min_agreeing(members.values.shape[1], verify)
    later, leader, agreeing = _compare(keys, member, members.values, members.input == HELD, fewest)
    # A pair may meet in several bands.
    _, once = np.unique(later.astype(np.uint64) << np.uint64(32) | leader.astype(np.uint64), return_index=True)
    later, leader, agreeing = later[once], leader[once], agreeing[once]
    edges = np.empty(len(once), EDGE)
    edges["unit"], edges["document"] = units[later], documents[later]
    edges["kept_unit"], edges["kept_document"] = units[leader], documents[leader]
    edges["estimate"] = estimate(agreeing, members.values.shape[1])
    return edges


def estimate(agreeing: Int64[np.ndarray, " pairs"], size: int) -> UInt8[np.ndarray, " pairs"]:
    """Jaccard similarity in 255ths, rounded, of sketches that agree in so many of `size` places."""
    return np.maximum((256 * agreeing - size + size // 2) // size, 0).astype(np.uint8)


def resolve(edges: Edges) -> Edges:
    """The documents to drop, each once, with one that stays and resembles it; sorted by (unit, document).

    `edges` are those of all partitions, in any order; an edge may occur several times.
    """
    if len(edges) == 0:
        return np.empty(0, EDGE)
    later = _code(edges["unit"], edges["document"])
    leader = _code(edges["kept_unit"], edges["kept_document"])
    codes = np.unique(np.concatenate([later, leader]))
    later, leader = np.searchsorted(codes, later), np.searchsorted(codes, leader)
    # By later document, then the most similar, then the first; codes are sorted as (unit, document) are.
    order = np.lexsort((leader, -edges["estimate"].astype(np.int16), later))
    later, leader = later[order], leader[order]
    chosen = _choose(later, leader, len(codes))
    return edges[order[chosen]]


def _code(unit: np.ndarray, document: np.ndarray) -> UInt64[np.ndarray, " records"]:
    """One number for (unit, document), in the same order; neither is negative."""
    return unit.astype(np.uint64) << np.uint64(32) | document.astype(np.uint64)


def _in_buckets(records: Bands) -> Bands:
    """The records whose key occurs twice or more, sorted by key."""
    order = np.argsort(records["key"], kind="stable")
    keys = records["key"][order]
    equal = keys[1:] == keys[:-1]
    is_candidate = np.zeros(len(records), np.bool_)
    is_candidate[1:] |= equal
    is_candidate[:-1] |= equal
    return records[order[is_candidate]]


def _load_all(units: Int32[np.ndarray, " members"], documents: Int32[np.ndarray, " members"], load: Load) -> Members:
    """What is known of all members, which are sorted by (unit, document)."""
    borders = np.flatnonzero(np.diff(units)) + 1
    parts = [
        load(int(units[start]), documents[start:end])
        for start, end in zip([0, *borders.tolist()], [*borders.tolist(), len(units)], strict=True)
    ]
    return Members(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _ranks(members: Members) -> Int64[np.ndarray, " members"]:
    """The place of each member in the order in which documents stay; members are sorted by (unit, document)."""
    order = np.lexsort((members.ids[:, 1], members.ids[:, 0], -members.length, members.input))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _first_of_equals(ids: Hashes) -> Bool[np.ndarray, " members"]:
    """Whether no member before has the same id."""
    order = np.lexsort((ids[:, 1], ids[:, 0]))  # stable: the first of equals comes first
    ids = ids[order]
    is_first = np.ones(len(ids), np.bool_)
    is_first[order[1:]] = (ids[1:] != ids[:-1]).any(axis=1)
    return is_first


@kernel
def _num_agreeing(values, one, other):
    count = np.int64(0)
    for place in range(values.shape[1]):
        count += values[one, place] == values[other, place]
    return count


@kernel
def _compare(keys, member, values, held, fewest):
    """Edges (later, leader, places at which they agree) among members, which are sorted by (key, rank).

    Those that are held lead, whatever they resemble.
    """
    room = max(16, len(member))
    later = np.empty(room, np.int64)
    leader = np.empty(room, np.int64)
    agreeing = np.empty(room, np.int64)
    found = 0
    leaders = np.empty(MAX_LEADERS, np.int64)
    num_leaders = 0
    for k in range(len(member)):
        if k == 0 or keys[k] != keys[k - 1]:
            num_leaders = 0
        elif member[k] == member[k - 1]:
            continue  # a record that came twice
        is_near = False
        for j in range(0 if held[member[k]] else num_leaders):
            count = _num_agreeing(values, member[k], leaders[j])
            if count >= fewest:
                is_near = True
                if found == room:
                    room *= 2
                    later = grown(later, room)
                    leader = grown(leader, room)
                    agreeing = grown(agreeing, room)
                later[found], leader[found], agreeing[found] = member[k], leaders[j], count
                found += 1
        if not is_near and num_leaders < MAX_LEADERS:
            leaders[num_leaders] = member[k]
            num_leaders += 1
    return later[:found], leader[:found], agreeing[:found]


@kernel
def _choose(later, leader, num_documents):
    """For each document to drop the place of its first edge to a document that stays; edges are sorted by `later`.

    Documents are decided when all that they have edges to are (Kahn 1962, topological sorting).
    """
    num_edges = len(later)
    begins = np.zeros(num_documents + 1, np.int64)  # edges of a document
    followers = np.zeros(num_documents + 1, np.int64)  # edges to a document
    for k in range(num_edges):
        begins[later[k] + 1] += 1
        followers[leader[k] + 1] += 1
    for document in range(num_documents):
        begins[document + 1] += begins[document]
        followers[document + 1] += followers[document]
    behind = followers[:-1].copy()
    follower = np.empty(num_edges, np.int64)
    for k in range(num_edges):
        follower[behind[leader[k]]] = later[k]
        behind[leader[k]] += 1
    waits = begins[1:] - begins[:-1]
    decided = np.empty(num_documents, np.int64)
    num_decided = 0
    for document in range(num_documents):
        if waits[document] == 0:
            decided[num_decided] = document
            num_decided += 1
    stays = np.ones(num_documents, np.bool_)
    chosen = np.empty(num_documents, np.int64)
    chosen[:] = -1
    at = 0
    while at < num_decided:
        document = decided[at]
        at += 1
        for k in range(begins[document], begins[document + 1]):
            if stays[leader[k]]:
                stays[document] = False
                chosen[document] = k
                break
        for k in range(followers[document], followers[document + 1]):
            waits[follower[k]] -= 1
            if waits[follower[k]] == 0:
                decided[num_decided] = follower[k]
                num_decided += 1
    assert at == num_documents, "edges lead to documents of smaller rank"
    return chosen[chosen >= 0]
