"""The process that runs an extractor: `python -m mlm_data.text.extract_worker resiliparse`.

It reads pages from its standard input and writes their texts to its standard output, one after another:

    page     length (4 bytes, little-endian), UTF-8
    text     TEXT, RAISED or NO_MEMORY (1 byte), length (4 bytes), UTF-8: the text, or what the extractor raised

First of all it writes READY. It ends when its input does: when whoever started it ends, in whatever way. A page that
takes more than `cpu_seconds` of the processor's time kills the process (SIGPROF). One that wants more than
`memory_bytes` is NO_MEMORY, or a crash. Nothing heavy is imported here but the extractor.
"""

import argparse
import logging
import os
import re
import resource
import signal
import struct
import sys
from collections.abc import Callable

READY, TEXT, RAISED, NO_MEMORY = b"R", b"T", b"E", b"M"
LENGTH = struct.Struct("<I")

# A cell that spans 9,999,999 columns becomes as many cells in trafilatura; three digits are a joke or an attack.
# Possessive: linear on any input.
_SPAN = re.compile(r"((?:col|row)span\s*+=\s*+[\"']?+\s*+)\d{3,}+", re.IGNORECASE)


def clamp_spans(page: str) -> str:
    """A page whose table cells span at most 99 rows or columns.

    >>> clamp_spans('<td colspan="9999999">')
    '<td colspan="99">'
    """
    return _SPAN.sub(r"\g<1>99", page)


def _resiliparse() -> Callable[[str], str]:
    from resiliparse.extract.html2text import extract_plain_text

    def extract(page: str) -> str:
        return extract_plain_text(page, main_content=True, list_bullets=False, alt_texts=False, comments=False)

    return extract


def _trafilatura() -> Callable[[str], str]:
    import trafilatura

    def extract(page: str) -> str:
        return trafilatura.extract(clamp_spans(page), include_comments=False) or ""

    return extract


EXTRACTORS = {"resiliparse": _resiliparse, "trafilatura": _trafilatura}


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("extractor", choices=EXTRACTORS)
    parser.add_argument("--cpu-seconds", type=float, default=60)
    parser.add_argument("--memory-bytes", type=int, default=4 << 30)
    arguments = parser.parse_args()
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    extract = EXTRACTORS[arguments.extractor]()
    extract("<p>warm up")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (arguments.memory_bytes, arguments.memory_bytes))
    answers.write(READY)
    answers.flush()
    pages = sys.stdin.buffer
    while head := pages.read(LENGTH.size):
        page = pages.read(LENGTH.unpack(head)[0])
        signal.setitimer(signal.ITIMER_PROF, arguments.cpu_seconds)
        try:
            kind, answer = TEXT, extract(page.decode()).encode(errors="replace")
        except MemoryError:
            kind, answer = NO_MEMORY, b""
        except Exception as error:  # whatever the library raises is its answer
            kind, answer = RAISED, f"{type(error).__name__}: {error}"[:200].encode(errors="replace")
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(kind + LENGTH.pack(len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    main()
