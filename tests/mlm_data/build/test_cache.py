"""The cache is never believed: what is damaged is noticed."""

import os
import time

import pyarrow as pa
import pytest

from mlm_data import ending
from mlm_data.build import cache
from mlm_data.dataset.seals import sealed
from mlm_data.errors import BuildError, FormatError
from mlm_data.stores.folder import Folder
from mlm_data.tokens.alphabet import Alphabet
from mlm_data.tokens.train import Trained

TABLE = pa.table({"x": list(range(1000))})


def fill(sink):
    with pa.ipc.new_file(sink, TABLE.schema) as file:
        file.write_table(TABLE)


@pytest.fixture
def work(tmp_path):
    cache.write_unit(Folder(tmp_path), "k", fill, lambda: {"documents_read": 1000})
    return Folder(tmp_path)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(data)


def test_a_unit_comes_back_with_its_facts(work):
    facts = cache.check_unit(work, "k")
    assert facts["documents_read"] == 1000
    assert cache.open_unit(work, "k", facts["content"]) == TABLE
    assert cache.keys(work) == ["k"]


def test_an_absent_unit_is_no_damage(work):
    assert cache.check_unit(work, "other") is None


def test_documents_without_their_facts_are_absent(work, tmp_path):
    """A crash between the two files."""
    (tmp_path / "prepared/k.json").unlink()
    assert cache.check_unit(work, "k") is None


@pytest.mark.parametrize("place", [0, 9, 100, 4000, -20, -1])
@pytest.mark.parametrize("name", ["k.arrow", "k.json"])
def test_one_changed_bit_is_noticed(work, tmp_path, name, place):
    content = cache.check_unit(work, "k")["content"]
    flip(tmp_path / "prepared" / name, place)
    with pytest.raises(FormatError, match=rf"{name}"):
        cache.check_unit(work, "k")
    if name == "k.arrow":
        with pytest.raises(BuildError, match="a byte was changed, while the build ran: start it again"):
            cache.open_unit(work, "k", content)


@pytest.mark.parametrize("content", [b"", b"ARROW1"])
def test_a_file_that_lost_its_bytes(work, tmp_path, content):
    (tmp_path / "prepared/k.arrow").write_bytes(content)
    with pytest.raises(FormatError, match="a byte was changed"):
        cache.check_unit(work, "k")


def test_a_missing_file(work, tmp_path):
    (tmp_path / "prepared/k.arrow").unlink()
    with pytest.raises(FormatError, match="missing"):
        cache.check_unit(work, "k")


def test_a_tokenizer_is_trained_once_and_again_if_it_is_damaged(tmp_path):
    work, times = Folder(tmp_path), []
    trained = Trained(b'{"model": "\xc3\xa9"}', Alphabet(("a", "é"), 3, 0.9, 1))

    def train():
        times.append(1)
        return trained

    for _ in range(2):
        assert cache.remember_tokenizer(work, "t", train) == trained
    assert len(times) == 1
    flip(tmp_path / "tokenizers/t.json", 20)
    assert cache.remember_tokenizer(work, "t", train) == trained
    assert len(times) == 2


@pytest.mark.parametrize("place", [0, 7, 15, 40, 60, 90, 120, -30, -3, -1])
def test_one_changed_bit_of_a_tokenizer_is_noticed(tmp_path, place):
    """Wherever it is: in the tokenizer, the alphabet, a key, the checksum or the braces."""
    work = Folder(tmp_path)
    trained = Trained(b'{"model": {"vocab": {"a": 0, "b": 1}}}', Alphabet(("a", "b"), 3, 0.9, 1))
    cache.remember_tokenizer(work, "t", lambda: trained)
    before = work.read("tokenizers/t.json")
    flip(tmp_path / "tokenizers/t.json", place)
    times = []
    assert cache.remember_tokenizer(work, "t", lambda: times.append(1) or trained) == trained
    assert times == [1]
    assert work.read("tokenizers/t.json") == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["prepared/k.json", "tokenizers/k.json"])
def test_facts_that_are_no_facts(work, tmp_path, name, content):
    """A file that lost its end, or holds something else."""
    trained = Trained(b"{}", None)
    cache.remember_tokenizer(work, "k", lambda: trained)
    (tmp_path / name).write_bytes(content)
    assert cache.remember_tokenizer(work, "k", lambda: trained) == trained
    if name.startswith("prepared"):
        with pytest.raises(FormatError, match=r"k\.json"):
            cache.check_unit(work, "k")


def test_payloads_are_checked_by_their_names(tmp_path):
    work = Folder(tmp_path)
    name = cache.store_payload(work, b"signatures")
    assert cache.load_payload(work, name) == b"signatures"
    flip(tmp_path / name, 3)
    with pytest.raises(BuildError, match="a byte was changed"):
        cache.load_payload(work, name)
    assert cache.store_payload(work, b"signatures") == name
    assert cache.load_payload(work, name) == b"signatures"


def test_what_a_build_did_is_told_to_whoever_waits_for_it(tmp_path):
    """Two builds may end in one folder at once: each has its own note."""
    work = Folder(tmp_path)
    one, two = cache.begin(work), cache.begin(work)
    assert cache.noted(work, one) == {}
    cache.note(work, one, {"units": 3})
    cache.note(work, two, {"units": 4})
    assert (cache.noted(work, one)["units"], cache.noted(work, two)["units"]) == (3, 4)
    note = f"runs/{one}.json"
    work.write(f"runs/{two}.json", work.read(note))  # a note of another build
    assert cache.noted(work, two) == {}
    flip(tmp_path / note, 5)
    assert cache.noted(work, one) == {}
    for run in (one, two):
        cache.end(work, run)
    assert work.names("runs") == []


def test_a_build_that_nobody_waits_for_notes_nothing(tmp_path):
    cache.note(Folder(tmp_path), "", {"units": 3})
    assert Folder(tmp_path).names() == []


class TestSigns:
    """What says that a build may publish, when its process is gone."""

    DAYS = 3 * 86_400

    @pytest.fixture
    def work(self, tmp_path):
        return Folder(tmp_path)

    def begun_by(self, work, owner):
        run = cache.begin(work)
        work.write(cache.sign(run), f"may publish\n{owner}\n".encode())
        cache.note(work, run, {})
        return run

    def age(self, work, seconds):
        for name, _ in work.walk():
            os.utime(work.path(name), (time.time() - seconds,) * 2)

    def test_a_process_that_is_gone_leaves_none(self, work):
        mine = cache.begin(work)
        gone = self.begun_by(work, ending.owner().rpartition("-")[0] + "-1")
        self.age(work, self.DAYS)
        cache.clear(work)
        assert work.names("runs") == [mine]
        cache.check_sign(work, mine)
        with pytest.raises(BuildError, match="interrupted"):
            cache.check_sign(work, gone)

    @pytest.mark.parametrize("owner", ["0" * 12 + "-1-1", ""])
    def test_one_of_another_machine_stays_for_a_day(self, work, owner):
        run = self.begun_by(work, owner)
        cache.clear(work)
        assert work.names("runs") == [run, f"{run}.json"]
        self.age(work, self.DAYS)
        cache.clear(work)
        assert work.names("runs") == []

    def test_one_that_still_says_how_far_it_is_stays(self, work):
        run = self.begun_by(work, "0" * 12 + "-1-1")
        self.age(work, self.DAYS)
        work.write("status/build.json", sealed({"run": run}))
        work.write("status/host-1.json", b"damaged")
        cache.clear(work)
        assert run in work.names("runs")

    def test_a_note_whose_sign_is_gone(self, work):
        run = cache.begin(work)
        cache.note(work, run, {})
        work.delete(cache.sign(run))
        cache.clear(work)
        assert work.names("runs") == [f"{run}.json"]
        self.age(work, self.DAYS)
        cache.clear(work)
        assert work.names("runs") == []


class TestBudget:
    """Units a, b, c and a tokenizer, used in this order, a minute apart."""

    @pytest.fixture
    def work(self, tmp_path):
        work = Folder(tmp_path)
        for name in "abc":
            cache.write_unit(work, name, fill, dict)
        cache.remember_tokenizer(work, "t", lambda: Trained(b"{}", None))
        for minute, name in enumerate(["prepared/a", "prepared/b", "prepared/c", "tokenizers/t"]):
            for path in tmp_path.glob(f"{name}.*"):
                os.utime(path, (1e9 + 60 * minute,) * 2)
        return work

    def held(self, work):
        return [entry.names[0] for entry in cache.entries(work)]

    def size(self, work, *names):
        return sum(entry.num_bytes for entry in cache.entries(work) if entry.names[0] in names)

    def test_what_was_used_longest_ago_goes_first_and_whole(self, work):
        budget = self.size(work, "prepared/c.json", "tokenizers/t.json")
        gone = cache.evict(work, budget)
        assert self.held(work) == ["prepared/c.json", "tokenizers/t.json"]
        assert gone > 0
        assert work.names("prepared") == ["c.arrow", "c.json"]

    def test_nothing_goes_within_the_budget(self, work):
        assert cache.evict(work, sum(entry.num_bytes for entry in cache.entries(work))) == 0
        assert len(self.held(work)) == 4

    def test_using_something_makes_it_young(self, work):
        assert cache.check_unit(work, "a") is not None
        cache.evict(work, self.size(work, "prepared/a.json"))
        assert self.held(work) == ["prepared/a.json"]

    def test_what_a_running_build_has_used_stays(self, work, tmp_path):
        run = cache.begin(work)
        os.utime(tmp_path / cache.sign(run), (1e9 + 60,) * 2)  # as b was used
        cache.evict(work, 0)
        assert self.held(work) == ["prepared/b.json", "prepared/c.json", "tokenizers/t.json"]
        cache.evict(work, 0, besides=run)
        assert self.held(work) == []

    def test_a_sign_that_nobody_took_away_protects_for_a_week(self, work, tmp_path):
        dead, alive = cache.begin(work), cache.begin(work)
        os.utime(tmp_path / cache.sign(dead), (1e9, 1e9))
        os.utime(tmp_path / cache.sign(alive), (1e9 + cache.STALE_SECONDS + 60,) * 2)
        cache.evict(work, 0)
        assert self.held(work) == []

    def test_units_that_are_wanted_stay(self, work):
        for key in ("a-1", "b-1"):
            cache.keep_result(work, key, b"{}")
            os.utime(work.path(f"assembled/{key}.json"), (1e9, 1e9))
        cache.evict(work, 0, keep={"a", "c"})
        assert set(self.held(work)) == {"assembled/a-1.json", "prepared/a.json", "prepared/c.json"}
        assert cache.kept_result(work, "a-1") == b"{}"


def test_workers_stop_once_the_build_may_not_publish(tmp_path):
    work, output = Folder(tmp_path / "out/work"), Folder(tmp_path / "out")
    run = cache.begin(work)
    cache.check_still(work, run)
    growing = output.guarded(lambda: cache.check_still(work, run))
    growing.write("one", b"1")
    cache.end(work, run)
    for what in (lambda: cache.check_still(work, run), lambda: growing.write("two", b"2")):
        with pytest.raises(BuildError, match="interrupted"):
            what()
    assert output.names() == ["one", "work"]
    cache.check_still(work, "")  # a job that nobody waits for


def test_a_bucket_is_asked_now_and_then(tmp_path, monkeypatch):
    work, asked = Folder(tmp_path), []
    monkeypatch.setattr(Folder, "is_local", False)
    monkeypatch.setattr(cache, "_allowed", {})
    monkeypatch.setattr(cache, "check_sign", lambda work, run: asked.append(run))
    now = [100.0]
    monkeypatch.setattr(cache.time, "monotonic", lambda: now[0])
    for seconds in (0, 1, 2, 10):
        now[0] = 100.0 + seconds
        cache.check_still(work, "one")
    cache.check_still(work, "two")
    assert asked == ["one", "one", "two"]
    assert len(cache._allowed) == 1  # of the newest build alone
