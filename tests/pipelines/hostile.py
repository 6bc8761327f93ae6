"""Runners that lose, repeat and reorder: a fault at one border of the pipeline, put in between by a test.

Borders are looked at in three places: what a step has put out, what was addressed to the next, and what was grouped.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import apache_beam as beam

from mlm_data.build.account import tally
from pipelines import steps

PLACES = ("output", "addressed", "grouped")
Element = Any  # a message; (receiver, message); (receiver, messages)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and where."""

    step: str  # its name; PLAN for the source; "" everywhere
    place: str  # one of PLACES
    kind: str  # lose, repeat, reorder, lose_group, repeat_group, split_group
    every: int = 0  # 0: only the first element that comes by; n: about each n-th, chosen by its hash


class _Spoil(beam.DoFn):
    """Spoils elements of a bundle. Reordering needs all of them, so what it kept back comes at the end."""

    seen = 0  # of all bundles: the local runner without threads is one process

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def process(self, element: Element) -> Iterator[Element]:
        kind = self.fault.kind
        if self.fault.place == "grouped":
            number, messages = element
            messages = list(messages)
            if kind == "reorder":
                yield number, messages[::-1]
            elif kind in ("lose", "repeat"):
                yield number, [again for message in messages for again in self._spoilt(message)]
            elif kind == "split_group" and len(messages) > 1:
                yield number, messages[:1]
                yield number, messages[1:]
            else:
                hit = kind != "split_group" and self._hits(messages[0])
                yield from [element] * ({"lose_group": 0, "repeat_group": 2}[kind] if hit else 1)
        else:
            yield from self._spoilt(element)

    def _spoilt(self, element: Element) -> list[Element]:
        return [element] * ({"lose": 0, "repeat": 2}[self.fault.kind] if self._hits(element) else 1)

    def _hits(self, element: Element) -> bool:
        type(self).seen += 1
        if not self.fault.every:
            return self.seen == 1
        message = element if isinstance(element, bytes) else element[1]
        return tally([message]).total % self.fault.every == 0


@contextlib.contextmanager
def runner_with(fault: Fault) -> Iterator[None]:
    """Within, every pipeline that is constructed has the fault."""
    _Spoil.seen = 0
    expand, source = steps.Parts.expand, steps.Units.expand

    def spoilt(sent: Any, label: str, hint: Any) -> Any:
        return sent | label >> beam.ParDo(_Spoil(fault)).with_output_types(hint)

    def expand_parts(self: steps.Parts, sent: Any) -> Any:
        step = self._work.step
        mine = fault.step in ("", step.name)
        addressed, delivered = self.addressed, self.delivered

        def after(put: Callable[[Any], Any], place: str, hint: Any) -> Callable[[Any], Any]:
            return lambda inner: (
                spoilt(put(inner), f"Spoil {place}", hint) if mine and fault.place == place else put(inner)
            )

        with (
            mock.patch.object(self, "addressed", after(addressed, "addressed", tuple[int, bytes])),
            mock.patch.object(self, "delivered", after(delivered, "grouped", tuple[int, Iterable[bytes]])),
        ):
            found = expand(self, sent)
        return spoilt(found, "Spoil output", bytes) if mine and fault.place == "output" else found

    def expand_source(self: steps.Units, root: Any) -> Any:
        found = source(self, root)
        mine = fault.step in ("", "PLAN") and fault.place == "output"
        return spoilt(found, "Spoil output", bytes) if mine else found

    with (
        mock.patch.object(steps.Parts, "expand", expand_parts),
        mock.patch.object(steps.Units, "expand", expand_source),
    ):
        yield
