"""The rules of `mlm_data.curation.privacy` once more, as regular expressions over what was written and what is left."""

import ipaddress
import re

from mlm_data.curation.privacy import (
    _THREE_DIGITS,
    _TWO_DIGITS,
    ADDRESS_WORDS,
    COUNTED,
    FILLERS,
    IBAN_LENGTHS,
    LINKS,
    NO_DOMAINS,
)

WORD = "A-Za-z0-9_"
LATIN = "\u00c0-\u027f"
CLOSES = rf"(?![{WORD}]|[.-][{WORD}])"
LABEL = rf"[A-Za-z0-9{LATIN}](?:[A-Za-z0-9{LATIN}-]*[A-Za-z0-9{LATIN}])?"
LOCAL = re.compile(rf"(?:[{WORD}{LATIN}%+-]|(?<=[A-Za-z])'(?=[A-Za-z])|\.(?![.@]))*\Z", re.ASCII)
DOMAIN = re.compile(rf"[A-Za-z0-9{LATIN}.-]+")
IPV4 = re.compile(r"(?:(?:0|[1-9][0-9]?[0-9]?)\.){3}(?:0|[1-9][0-9]?[0-9]?)(?=[^0-9]|\Z)" + CLOSES)
PLAIN = re.compile(r"(?:1([.-]))?([2-9]\d\d)([.-])([2-9]\d\d)\3\d{4}" + CLOSES, re.ASCII)
BRACKETS = re.compile(r"(?:1[. -])?\(([2-9]\d\d)\) ?([2-9]\d\d)[. -]\d{4}" + CLOSES, re.ASCII)
GROUP = re.compile(r"(\)?)([ ./\u00a0-]?)(\(?)(\d+)", re.ASCII)
IN_GROUPS = re.compile(r":[0-9a-fA-F]{0,4}:\Z")
HOLE = "\ue000"  # where an address of email was
DONE = "<"  # what was replaced


def emails(text: str) -> list[tuple[int, int]]:
    """Spans of the addresses, in characters."""
    spans, low = [], 0
    for at in (match.start() for match in re.finditer("@", text)):
        if at < low:
            continue
        local = LOCAL.search(text, low, at)
        span = local.group() if local else ""
        # LOCAL sees no further than `at`; what it asks of the character behind a dot or an apostrophe holds inside.
        while len(span.encode()) > 64:
            span = span[1:]
        span = re.sub(rf"^[^A-Za-z0-9_{LATIN}]+", "", span)
        if span.endswith("."):
            continue
        before = text[low : at - len(span)]
        found = DOMAIN.match(text, at + 1)
        if not span or before.endswith(("@", "//")) or span == "git" or not found:
            continue
        domain = whole_labels(found.group())
        labels = domain.split(".")
        last = labels[-1]
        after = text[at + 1 + len(domain) :][:1]
        good_last = re.fullmatch(rf"[A-Za-z{LATIN}]+", last) or last.lower().startswith("xn")
        if len(labels) < 2 or len(domain.encode()) > 255 or len(last.encode()) < 2 or not good_last:
            continue
        if last.lower() in NO_DOMAINS or after in ("@", "_", "("):
            continue
        low = at + 1 + len(domain)
        spans.append((at - len(span), low))
    return spans


def whole_labels(domain: str) -> str:
    """The labels up to the first that is none, or that ends in a hyphen."""
    kept = []
    for label in domain.split("."):
        bare = label.rstrip("-")
        if not bare or bare.startswith("-") or len(bare.encode()) > 63:
            break
        kept.append(bare)
        if bare != label:
            break
    return ".".join(kept)


def counted(before: str, words: tuple[str, ...]) -> bool:
    listed = False
    for _ in range(8):
        gap = re.search(r"[\x00-\x20:=(#\"',;&]{0,16}\Z", before).group()
        listed |= bool(re.search("[,;&]", gap))
        before = before[: len(before) - len(gap)]
        if not before:
            return False
        if before.endswith("§"):
            return not listed
        if re.search(r"[A-Za-z]\.\Z", before):
            before = before[:-1]
        window = before[-20:]
        if number := re.search(r"[0-9.-]+\Z", window):
            if not listed:
                return False
            listed = False
            before = before[: len(before) - len(number.group())]
            continue
        word = re.search(r"[A-Za-z]+\Z", window)
        if not word or listed:
            return False
        name = word.group()[:8].lower()
        if name in words:
            return True
        listed = name in LINKS
        if not listed and name not in FILLERS:
            return False
        before = before[: len(before) - len(word.group())]
    return False


def opens(before: str) -> bool:
    return not (re.search(rf"[{WORD}]\Z|\.\Z|[{WORD}]-\Z", before) or IN_GROUPS.search(before))


def in_path(before: str) -> bool:
    return bool(re.search(rf"[{WORD}]/\Z", before))


def ipv4(before: str, rest: str) -> int:
    match = IPV4.match(rest)
    if not match or in_path(before):
        return 0
    parts = [int(part) for part in match.group().split(".")]
    if max(parts) > 255 or not public(match.group()) or counted(before, COUNTED):
        return 0
    if max(parts) < 32 or (parts[0] < 16 and parts[1] < 64 and parts[2] < 16):
        in_url = before.endswith(("@", "//")) or re.match("[:/][0-9]", rest[match.end() :])
        if not in_url and not counted(before, ADDRESS_WORDS):
            return 0
    return match.end()


def public(address: str) -> bool:
    ip = ipaddress.IPv4Address(address)
    special = (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
    )
    special += (
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
    )
    return not any(ip in ipaddress.IPv4Network(block) for block in (*special, "224.0.0.0/3"))


def ipv6(rest: str) -> int:
    """The longest beginning that is an address and ends well."""
    match = re.match(r"[23][0-9a-fA-F]{3}(?=:)(?::[0-9a-fA-F]{1,4})*", rest)
    if not match:
        return 0
    best = 0
    text = match.group()
    if text.count(":") >= 7:
        text = ":".join(text.split(":")[:8])
    elif gap := re.match(r"::(?:[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4})*)?", rest[len(text) :]):
        head = len(text.split(":"))
        tail = [part for part in gap.group()[2:].split(":") if part][: 8 - head]
        text += "::" + ":".join(tail)
    groups = [part for part in text.split(":") if part]
    has_gap = "::" in text
    if (len(groups) == 8 and not has_gap) or (has_gap and 2 <= len(groups) <= 7):
        best = len(text)
    after = rest[best:]
    if not best or re.match("2001:0?db8(?![0-9a-f])", text.lower()):
        return 0
    return 0 if re.match(rf"[{WORD}]|[.-][{WORD}]|:[:0-9a-fA-F]", after) else best


def national(rest: str) -> int:
    for pattern, area, exchange in ((PLAIN, 2, 4), (BRACKETS, 1, 2)):
        match = pattern.match(rest)
        if match and match.group(area)[1:] != "11" and match.group(exchange)[0] >= "2":
            if pattern is PLAIN and match.group(1) not in (None, match.group(3)):
                continue
            return match.end()
    return 0


def international(before: str, rest: str) -> int:
    """Of what stands behind the plus."""
    if not re.match("[1-9]", rest):
        return 0
    digits, groups, best, end = "", 0, 0, 0
    opened = is_open = dotted = False
    begins_line = before == "" or before.endswith("\n")
    while match := GROUP.match(rest, end):
        close, separator, bracket, more = match.groups()
        if groups == 0 and match.start(4) > 0:
            break
        if groups and (not (close or separator or bracket) or (close and not is_open) or (bracket and opened)):
            break
        if len(digits) + len(more) > 15:
            break
        is_open = (is_open and not close) or bool(bracket)
        opened |= bool(bracket)
        dotted |= separator == "."
        digits, groups, end = digits + more, groups + 1, match.end()
        whole = groups >= 3 or (not dotted and (groups == 2 or (len(digits) >= 10 and not begins_line)))
        if not is_open and whole and len(digits) >= 9 and known(digits) and re.match(CLOSES, rest[end:]):
            best = end
    return best


def known(digits: str) -> bool:
    if digits[0] == "1":
        return len(digits) == 11 and digits[1] >= "2" and digits[4] >= "2" and digits[2:4] != "11"
    return digits[0] == "7" or int(digits[:2]) in _TWO_DIGITS or int(digits[:3]) in _THREE_DIGITS


def iban(rest: str) -> int:
    length = IBAN_LENGTHS.get(rest[:2])
    if not length:
        return 0
    match = re.match(rf"(?:[A-Z0-9]{{{length}}}|{in_groups(length)}){CLOSES}", rest)
    if not match:
        return 0
    plain = match.group().replace(" ", "")
    return match.end() if int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1 else 0


def in_groups(length: int) -> str:
    whole, rest = divmod(length, 4)
    return " ".join(["[A-Z0-9]{4}"] * whole + ([f"[A-Z0-9]{{{rest}}}"] if rest else []))


def replace(text: str, kinds: tuple[str, ...], marks: dict[str, str]) -> str:
    """The text with marks, until there is nothing more to mark."""
    while (marked := replace_once(text, kinds, marks)) != text:
        text = marked
    return text


def replace_once(text: str, kinds: tuple[str, ...], marks: dict[str, str]) -> str:
    """The text with marks, character by character."""
    spans = emails(text) if "email" in kinds else []
    for start, end in reversed(spans):
        text = text[:start] + HOLE + text[end:]
    out, i, before = "", 0, ""  # `before` has DONE for what was replaced: the context of what is left

    def take(kind: str, size: int, back: int = 0) -> None:
        nonlocal out, before, i
        out, before = out[: len(out) - back] + marks[kind], before[: len(before) - back] + DONE
        i += size

    while i < len(text):
        rest = text[i:].split(HOLE)[0]
        c = text[i]
        if c == HOLE:
            take("email", 1)
            continue
        left = before.rpartition(DONE)[2] if DONE in before else before
        context = DONE + left if DONE in before else left
        if "0" <= c <= "9" and not re.search("[0-9]\\Z", context):
            if (
                "iban" in kinds
                and re.search("[A-Z]{2}\\Z", left)
                and opens(context[:-2])
                and (n := iban(left[-2:] + rest))
            ):
                take("iban", n - 2, 2)
                continue
            if "phone" in kinds:
                if left.endswith("+"):
                    if opens(context[:-1]) and not left.endswith("++") and (n := international(context[:-1], rest)):
                        take("phone", n, 1)
                        continue
                else:
                    for back in (1, 0) if left.endswith("(") else (0,):
                        start = context[: len(context) - back]
                        n = national("(" * back + rest) if opens(start) and not in_path(start) else 0
                        if n:
                            take("phone", n - back, back)
                            break
                    if n:
                        continue
            if "ip" in kinds and opens(context) and (n := ipv4(left, rest) or ipv6(rest)):
                take("ip", n)
                continue
        out, before, i = out + c, before + ("\ue001" if c == DONE else c), i + 1
    return out
