"""No runner is believed: whatever is lost, repeated or reordered, a build has the right digest or names the border."""

import json
import shutil
from pathlib import Path

import pytest

from mlm_data.build import account, cache
from mlm_data.build.account import FLOW, PUBLISH, Kind
from mlm_data.build.plan import make_plan
from mlm_data.config import BuildConfig
from mlm_data.errors import BuildError
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.pipelines.hostile import Fault, runner_with
from tests.pipelines.small_corpus import settings, text

STEPS = (*FLOW, PUBLISH)
SEEDS = (3,)


def everything(folder, action):
    """64 documents in 8 units, with copies, near duplicates and an item of an evaluation, against which there are two
    actions; each step of the flow goes with one of them."""
    item = "nobody in the whole town had ever seen a kingfisher carry seven golden keys across the frozen lake at noon"
    texts = [text(i) for i in range(60)]
    texts += [texts[3], texts[50], f"{texts[7]} And so it ends.", f"{text(70)} {item}."]
    head = "Home, about us, contact and imprint.\n"
    lines = [json.dumps({"text": head + one, "year": "1850", "author": "nobody"}) + "\n" for one in texts]
    for number in range(8):
        (folder / f"in/{number}").mkdir(parents=True)
        (folder / f"in/{number}/a.jsonl").write_text("".join(lines[number::8]))
    (folder / "evaluation.jsonl").write_text(json.dumps({"text": item}) + "\n")
    fields = {"keep_fields": ["year", "author"]}
    inputs = [{"path": str(folder / f"in/{number}/*.jsonl"), "name": f"in{number}", **fields} for number in range(8)]
    changes = {
        "inputs": inputs,
        "deduplicate": {"near": True, "lines": {"min_chars": 20, "max_copies": 3}},
        "decontaminate": {"against": [str(folder / "evaluation.jsonl")], "action": action},
        "mixing": {"by": "source", "temperature": 0.5},
        "unit_bytes": 4000,
    }
    return parse_settings(BuildConfig, settings(folder, **changes), where="test")


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """By action (configuration, the right digest); what is prepared stays in the cache: a build takes half a second."""
    found = {}
    for action, reasons in (("drop", {"near_duplicate", "contaminated", "thinned"}), ("cut", {"near_duplicate"})):
        config = everything(tmp_path_factory.mktemp("hostile"), action)
        built = build(config)
        ledger = built.manifest.ledger["documents"]
        assert ledger["dropped"]["exact_duplicate"] == 2
        assert reasons <= set(ledger["dropped"])
        found[action] = config, built.manifest.digest
    return found


@pytest.fixture
def whole(wholes, request, monkeypatch):
    """Of the action whose flow has the step that the test is about; files list the units where that is the one."""
    step = request.node.callspec.params.get("step") if hasattr(request.node, "callspec") else None
    if step is account.LIST:
        monkeypatch.setattr(account, "LIST_BYTES", 900)
    return wholes["cut" if step is account.CHOOSE_RUNS else "drop"]


def outcome(whole, fault):
    """The digest, or the line that refuses it; a dataset is never another one."""
    config, digest = whole
    for name in ("versions", "rows"):
        shutil.rmtree(f"{config.output}/{name}", ignore_errors=True)
    Path(config.output, "LATEST").unlink(missing_ok=True)
    with runner_with(fault):
        try:
            found = build(config).manifest.digest
        except BuildError as error:
            found = str(error)
    assert found == digest or "nothing is published" in found.splitlines()[0], fault
    assert not found.count("\n")
    return found


def names(line, step, place):
    """Whether the line names a border that goes out of the step, or into it. PLAN is None."""
    if place != "output":
        return line.startswith(tuple(step.border(kind) for kind in step.reads))
    sent = (account.Kind.UNIT,) if step is None else step.sends
    out = [reader.border(kind) for reader in STEPS for kind in reader.reads if kind in sent]
    # Of a part that had nothing to send only the report can be lost.
    return line.startswith((*out, "reports to PUBLISH")) or f"to {step.name}, or its reports to PUBLISH: " in line


OFTEN = (account.LIST, account.PREPARE, account.SELECT, account.DEDUPLICATE, account.CHOOSE_RUNS, account.ASSEMBLE)


@pytest.mark.parametrize(
    "step",
    [None, *(step if step in OFTEN else pytest.param(step, marks=pytest.mark.slow) for step in FLOW)],
    ids=lambda step: step.name if step else "PLAN",
)
def test_what_a_step_sends_and_a_runner_loses(whole, step):
    line = outcome(whole, Fault(step.name if step else "PLAN", "output", "lose"))
    assert names(line, step, "output"), line


@pytest.mark.parametrize("step", [account.LIST, account.SELECT, account.MATCH, PUBLISH], ids=lambda step: step.name)
def test_what_is_grouped_and_a_runner_loses(whole, step):
    line = outcome(whole, Fault(step.name, "grouped", "lose"))
    assert names(line, step, "grouped"), line


def test_a_runner_that_says_done_though_nothing_was_published(whole):
    assert outcome(whole, Fault("PUBLISH", "grouped", "lose_group")).startswith(
        "results of units to PUBLISH: nothing has arrived: "
    )


@pytest.mark.parametrize(("place", "kind"), [("output", "repeat"), ("addressed", "repeat"), ("grouped", "repeat"),
                                             ("grouped", "reorder"), ("grouped", "repeat_group")])  # fmt: skip
def test_repeats_and_any_order_give_the_same_dataset(whole, place, kind):
    assert outcome(whole, Fault("", place, kind, every=2)) == whole[1]


def test_units_that_lie_in_files_give_the_same_dataset(whole, monkeypatch):
    config, digest = whole
    monkeypatch.setattr(account, "LIST_BYTES", 900)
    shutil.rmtree(Path(config.output, "work/signatures"), ignore_errors=True)
    assert outcome(whole, Fault("", "output", "repeat", every=2)) == digest
    units = make_plan(config).units
    lists = list(account.unit_lists(units))
    assert 2 < len(lists) < len(units)
    assert all(Path(config.output, "work", cache.payload_name(data)).read_bytes() == data for data in lists)


def test_a_list_of_units_that_is_damaged_is_refused(whole, monkeypatch):
    config, _ = whole
    monkeypatch.setattr(account, "LIST_BYTES", 900)
    real = cache.store_payload

    def store(work, data):
        name = real(work, data)
        path = Path(config.output, "work", name)
        path.write_bytes(path.read_bytes().replace(b'"index": 4', b'"index": 5'))
        return name

    monkeypatch.setattr(cache, "store_payload", store)
    with pytest.raises(BuildError, match="a byte was changed, while the build ran: start it again"):
        build(config)


def test_a_group_that_comes_in_two_is_refused(whole):
    assert " was done twice, with different messages: " in outcome(
        whole, Fault("DEDUPLICATE", "grouped", "split_group")
    )


@pytest.mark.parametrize("action", ["drop", "cut"])
def test_a_part_that_is_done_again_sends_the_same_bytes(tmp_path, monkeypatch, action):
    """A runner that loses a worker does its parts again, and gives some steps the old messages, others the new ones."""
    sent: dict[bytes, set[bytes]] = {}
    real = account.seal

    def seal(kind, sender, receiver, piece, payload):
        message = real(kind, sender, receiver, piece, payload)
        name = message[: account.HEADER_BYTES]
        if kind is Kind.REPORT:  # what it notes may differ
            report = json.loads(payload) | {"notes": {}}
            name, payload = name + report["step"].encode(), json.dumps(report).encode()
        sent.setdefault(name, set()).add(payload)
        return message

    monkeypatch.setattr(account, "seal", seal)
    monkeypatch.setattr(account, "LIST_BYTES", 900)
    config = everything(tmp_path, action)
    assert build(config).num_reused == 0
    other = {"drop": {Kind.RUNS}, "cut": {Kind.MATCHES, Kind.HELD}}[action] | {Kind.IGNORED}  # no run is that common
    assert {name[0] for name in sent} == set(Kind) - other
    again = build(config)
    assert again.num_reused == again.num_units
    assert {name: found for name, found in sent.items() if len(found) > 1} == {}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
@pytest.mark.parametrize("kind", ["lose", "lose_group", "repeat", "repeat_group", "reorder", "split_group"])
@pytest.mark.parametrize("every", [0, *SEEDS])
def test_every_fault_at_every_border(whole, step, kind, every):
    """Refused or right, at every place where elements can be touched."""
    places = ["grouped"] if "group" in kind or kind == "reorder" else ["output", "addressed", "grouped"]
    for place in places:
        found = outcome(whole, Fault(step.name, place, kind, every))
        if kind in ("repeat", "repeat_group", "reorder"):
            assert found == whole[1]
        elif kind == "lose" and not every and not (step is PUBLISH and place == "output"):
            assert names(found, step, place), found
