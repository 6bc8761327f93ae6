"""Messages are opened once each, whatever the order, and an account balances or names the border."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.build import account
from mlm_data.build.account import (
    FLOW,
    HEADER_BYTES,
    Kind,
    Part,
    balance,
    kind_of,
    list_messages,
    receiver_of,
    seal,
    tally,
    unit_lists,
    unit_messages,
)
from mlm_data.build.context import Context, Tally
from mlm_data.config import BuildConfig
from mlm_data.errors import BuildError
from mlm_data.settings import parse_settings
from mlm_data.types import Unit


@pytest.fixture(autouse=True)
def lists(request, monkeypatch):
    """Where the test is about LIST UNITS, a list has two units."""
    if hasattr(request.node, "callspec") and request.node.callspec.params.get("step") is account.LIST:
        monkeypatch.setattr(account, "LIST_BYTES", 60)


def units_of(number):
    return [Unit(index=i, slices=()) for i in range(number)]


def context_of(units=3, partitions=2, **changes):
    values = {"inputs": [{"path": "x"}], "output": "o", "tokenizer": {"train": {}}} | changes
    return Context(
        config=parse_settings(BuildConfig, values, where="test"),
        tokenizer_sha256="",
        num_partitions=partitions,
        unit_bytes=1,
        group_modulus=1,
        versions=(),
        planned=tally(unit_messages(units_of(units))),
        listed=tally(list_messages(units_of(units))),
    )


def run(context, tamper=lambda step, number, messages: messages):
    """All steps in one process; each part sends one message to each part of whoever reads its kinds."""
    units = units_of(context.planned.messages)
    sent = list(list_messages(units)) or list(unit_messages(units))
    for step in (*[step for step in FLOW if step.takes_part(context)], account.PUBLISH):
        per = context.units_per_block if step.by_block else 1
        boxes = {}
        for message in sent:
            if kind_of(message) in step.reads:
                boxes.setdefault(receiver_of(message) // per, []).append(message)
        for number, messages in boxes.items():
            part = Part(step, number, context)
            inbox = part.open(tamper(step, number, messages))
            if step is account.PUBLISH:
                return balance(inbox[Kind.REPORT], part.received(Kind.RESULT), context)
            part.facts = {"opened": sum(len(items) for items in inbox.values())}
            part.notes = {"reused": 1}
            if step is account.LIST:
                for unit in list(unit_lists(units))[number].split(b"\n"):
                    sent.append(part.send(Kind.UNIT, json.loads(unit)["index"], unit))
            for kind in step.sends if step is not account.LIST else ():
                reader = next(other for other in (*FLOW, account.PUBLISH) if kind in other.reads)
                receivers = context.planned.messages if reader.by_block else reader.parts(context)
                for receiver in [number] if kind is Kind.PREPARED else range(receivers):
                    sent.append(part.send(kind, receiver, f"{step.name} {number} to {receiver}".encode()))
            sent.append(part.report())
    raise AssertionError("PUBLISH got nothing")


EVERYTHING = {"deduplicate": {"near": {}, "lines": {}}, "decontaminate": {"against": "x"}, "mixing": {}}
CUT = {"deduplicate": {"lines": {}}, "decontaminate": {"against": "x", "action": "cut"}}


@pytest.mark.parametrize("changes", [{}, EVERYTHING, CUT], ids=["little", "everything", "cut"])
def test_what_nobody_tampered_with_balances(changes):
    context = context_of(**changes)
    found = run(context)
    assert [step.name for step in FLOW if step.takes_part(context)] == list(found.facts)
    assert found.add_up(account.DEDUPLICATE, "opened") == 2 * 3
    assert found.notes["reused"] == sum(step.parts(context) for step in FLOW if step.takes_part(context))


def test_many_units_lie_in_lists(monkeypatch):
    monkeypatch.setattr(account, "LIST_BYTES", 60)
    context = context_of(units=5)
    assert context.listed.messages == 3
    assert list(run(context).facts) == ["LIST UNITS", "PREPARE", "SELECT", "DEDUPLICATE", "ASSEMBLE"]
    payloads = [message[HEADER_BYTES:] for message in unit_messages(units_of(5))]
    assert b"\n".join(unit_lists(units_of(5))).split(b"\n") == payloads
    other = replace(context, planned=replace(context.planned, total=1))
    with pytest.raises(BuildError, match=r"^units of LIST UNITS: others were sent than have arrived: nothing is"):
        run(other)
    monkeypatch.setattr(account, "LIST_BYTES", 2**20)
    assert context_of(units=5).listed == Tally()


def test_units_come_in_blocks_where_there_are_many_partitions():
    context = context_of(units=100, partitions=512)
    assert context.units_per_block == 32
    assert account.SELECT.parts(context) == 4
    run(context)
    assert context_of(partitions=16).units_per_block == 1
    assert context_of(partitions=4096).units_per_block == 64


@pytest.mark.parametrize("step", [*FLOW, account.PUBLISH], ids=lambda step: step.name)
def test_a_lost_message_is_named_by_its_border(step):
    for kind in step.reads:
        context = context_of(**(CUT if kind in (Kind.RUNS, Kind.IGNORED) else EVERYTHING))

        def lose(at, number, messages, kind=kind):
            mine = [message for message in messages if kind_of(message) == kind] if at is step and number == 0 else []
            return [message for message in messages if message not in mine[:1]]

        with pytest.raises(BuildError) as error:
            run(context, lose)
        line = str(error.value)
        # Where a list that was lost is the second to a unit, another message comes in its place.
        assert line.startswith(step.border(kind)), line
        assert "\n" not in line


@pytest.mark.parametrize("step", [*FLOW, account.PUBLISH], ids=lambda step: step.name)
def test_repeats_are_no_harm_and_changes_are_refused(step):
    context = context_of(**(CUT if step is account.CHOOSE_RUNS else EVERYTHING))

    def repeat(at, number, messages):
        return [*reversed(messages), *messages] if at is step else messages

    assert run(context, repeat).facts == run(context).facts

    def change(at, number, messages):
        return [*messages, messages[0] + b"!"] if at is step and messages else messages

    if step is not account.PUBLISH:
        with pytest.raises(BuildError, match=f"to {step.name}: two different ones of "):
            run(context, change)


def test_a_message_for_another_part_is_refused():
    context = context_of()
    part = Part(account.DEDUPLICATE, 1, context)
    with pytest.raises(BuildError, match="payloads of signatures to DEDUPLICATE: one of 0 was delivered to 1"):
        part.open([seal(Kind.SIGNATURES, 0, 0, 0, b"")])


def test_a_part_that_was_done_twice_must_have_said_the_same():
    context = context_of()

    def twice(reused, facts):
        part = Part(account.PREPARE, 0, context)
        part.open([])
        part.notes, part.facts = {"reused": reused}, facts
        return part.report()[13:]

    known = account._by_part([twice(0, {}), twice(1, {})])
    assert known["PREPARE", 0]["notes"] == {"reused": 0}
    with pytest.raises(BuildError, match="reports to PUBLISH: part 0 of PREPARE was done twice, with different"):
        account._by_part([twice(0, {"a": 1}), twice(0, {"a": 2})])


def test_a_report_of_a_part_that_is_not_there():
    context = context_of()
    bigger = replace(context, num_partitions=3)
    part = Part(account.DEDUPLICATE, 2, bigger)
    part.open([])
    extra = []

    def add(at, number, messages):
        return [*messages, *extra] if at is account.PUBLISH else messages

    extra.append(part.report())
    with pytest.raises(BuildError, match="DEDUPLICATE has no part 2"):
        run(context, add)


@given(st.lists(st.binary(max_size=40), max_size=8), st.randoms())
def test_a_tally_knows_no_order(messages, random):
    shuffled = random.sample(messages, len(messages))
    assert tally(messages) == tally(shuffled)
    assert tally(messages) == sum((tally([message]) for message in messages), Tally())
