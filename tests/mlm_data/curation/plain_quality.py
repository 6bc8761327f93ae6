"""What the kernels of the quality rules count, written down in plain Python: the oracle of their tests."""

import re
from collections import Counter

from mlm_data.curation.character_classes import CLOSERS, PUNCTUATION, TERMINAL, character_classes
from mlm_data.curation.words import ABBREVIATIONS, CANNOT_START, ENDS_SENTENCE, HAS_LETTER, HAS_TEXT, STARTS_LINE

POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
COUNTED = "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views|followers"


def is_punctuation(character: str) -> bool:
    return bool(character_classes()[ord(character)] & PUNCTUATION)


def is_terminal(character: str) -> bool:
    return bool(character_classes()[ord(character)] & TERMINAL)


def words(text: str) -> list[tuple[str, int]]:
    """(word, flags)."""
    found = []
    for line in text.splitlines():
        first = STARTS_LINE
        for word in line.split():
            flags = first
            first = 0
            flags |= HAS_LETTER if any(map(str.isalpha, word)) else 0
            flags |= CANNOT_START if all(map(is_punctuation, word)) else HAS_TEXT
            flags |= ENDS_SENTENCE if ends_sentence(word) else 0
            found.append((word, flags))
    return found


def ends_sentence(word: str) -> bool:
    bare = word.rstrip(CLOSERS)
    if not bare or not is_terminal(bare[-1]):
        return False
    if bare[-1] != ".":
        return True
    return len(bare[:-1].rpartition(".")[2]) > 1 and bare not in ABBREVIATIONS


def copies(pieces: list[str]) -> tuple[int, int]:
    """(later copies, their characters)."""
    seen: set[str] = set()
    num = characters = 0
    for piece in pieces:
        if piece in seen:
            num += 1
            characters += len(piece)
        seen.add(piece)
    return num, characters


def pieces(text: str, short_chars: int) -> dict[str, int]:
    paragraphs = re.split(r"\n{2,}", text.strip())
    between = re.split(r"\n+", text)
    filled = [line for line in text.split("\n") if line.strip()]
    lines = text.splitlines()
    return {
        "num_characters": len(text),
        "num_line_feeds": text.count("\n"),
        "num_hashes": text.count("#"),
        "num_ellipses": text.count("...") + text.count("…"),
        "num_lines": len(lines),
        "num_bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines),
        "num_ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines),
        "num_pieces": len(between),
        "num_repeated_pieces": copies(between)[0],
        "repeated_piece_characters": copies(between)[1],
        "num_filled_lines": len(filled),
        "num_terminated_lines": sum(is_terminal(line[-1]) for line in filled),
        "num_short_lines": sum(len(line) <= short_chars for line in filled),
        "repeated_filled_characters": copies(filled)[1],
        "num_paragraphs": len(paragraphs),
        "num_repeated_paragraphs": copies(paragraphs)[0],
        "repeated_paragraph_characters": copies(paragraphs)[1],
    }


def top_n_gram(found: list[str], n: int) -> int:
    grams = Counter(" ".join(found[i : i + n]) for i in range(len(found) - n + 1))
    if not grams:
        return 0
    gram, count = grams.most_common(1)[0]
    return len(gram) * count


def repeated_n_grams(found: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    total = place = 0
    while place + n <= len(found):
        gram = tuple(found[place : place + n])
        if gram in seen:
            total += sum(map(len, gram))
            place += n
        else:
            seen.add(gram)
            place += 1
    return total


def c4(text: str) -> tuple[str, int, int, list[str]]:
    """(what is left, lines with lorem ipsum, lines with a curly bracket, kept lines)."""
    kept = []
    lorem = curly = 0
    for whole in text.splitlines():
        line = whole.strip()
        found = line.split()
        if any(len(word) > 1000 for word in found):
            continue
        line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line)
        if not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...") or len(found) < 3:
            continue
        lorem += "lorem ipsum" in line.lower()
        if "javascript" in line.lower():
            continue
        curly += "{" in line
        if any(policy in line.lower() for policy in POLICIES):
            continue
        kept.append(line)
    return "\n".join(kept).strip(), lorem, curly, kept


def refinedweb(text: str) -> tuple[str, int, int]:
    """(what is left, words before, words that went)."""
    kept: list[str] = []
    is_after_blank = False
    removed = 0
    for line in text.split("\n"):
        bare = line.strip()
        if not bare:
            is_after_blank = True
            continue
        is_cut = (
            2 * sum(map(str.isupper, bare)) > len(bare)
            or bare.isdecimal()
            or len(bare.split()) < 2
            or re.search(rf"^\W*\d(?:,|\.|\d)*[kmb]?\s+(?:{COUNTED})\W*$", bare.lower())
        )
        if is_cut:
            removed += len(bare.split())
            continue
        if kept:
            kept.append("\n\n" if is_after_blank else "\n")
        is_after_blank = False
        kept.append(line)
    return "".join(kept), len(text.split()), removed
