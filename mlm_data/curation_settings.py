"""Settings of curation: what scores are made of each document, what they decide, and which copies go.

Scores are stored with the prepared documents; thresholds decide over them later. So a class here says which of its
fields decide only (`THRESHOLDS`): they enter no cache key, and changing one reads and tokenizes nothing again.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mlm_data.settings import Settings

PrivateKind = Literal["email", "ip", "phone", "iban"]
LineEdit = Literal["c4", "refinedweb"]


class Scored(Settings):
    """Settings of a score and of what it decides."""

    THRESHOLDS: ClassVar[frozenset[str]] = frozenset()

    def without_thresholds(self) -> dict[str, Any]:
        """What the stored scores depend on, as plain JSON types."""
        return self.model_dump(mode="json", exclude=set(self.THRESHOLDS))


class LanguageSettings(Scored):
    """Which languages stay. Each document gets a language and a score."""

    THRESHOLDS = frozenset({"keep", "min_score"})

    keep: Literal["all"] | tuple[str, ...] = "all"
    """Codes of the languages that stay, as `en` or `nob`; others are dropped as `other_language`. `all` scores, and
    drops none."""

    min_score: float = Field(default=0.35, ge=0, le=1)
    """The score below which a document in one of them is dropped, as `unsure_language`. 0.35 keeps 96 of 100 English
    laws; other tools' 0.65 belongs to another model."""

    model: Literal["py3langid", "lid176", "heliport"] = "py3langid"
    """What finds the language. Two of them are slower, and installed by you."""

    path: str | None = None
    """The file of `lid176`, lid.176.ftz or lid.176.bin."""

    group: bool = False
    """Whether Bosnian, Croatian and Serbian are one language, `sh`. For py3langid only."""

    @field_validator("keep", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) and value != "all" else value

    @field_validator("keep")
    @classmethod
    def _some(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value:
            raise ValueError("names no language: name one, or `all`")
        return value


class DomainSettings(Settings):
    """Whose pages are dropped, by the host in a field."""

    drop: str
    """A file of hosts, one a line, `#` begins a comment; a host stands for its subdomains, too. Their documents are
    dropped as `blocked_domain`."""

    field: str = "url"
    """The field of `keep_fields` that holds the address."""


class ClassifierSettings(Scored):
    """A fastText model of yours, and the probability that keeps a document."""

    THRESHOLDS = frozenset({"min"})

    path: str
    """The model, `.bin` or `.ftz`. The hash of its bytes enters the cache's keys."""

    label: str
    """The label whose probability is the score, such as `__label__hq`."""

    min: float = Field(ge=0, le=1)
    """The probability below which a document is dropped as `classifier`."""


class LineDuplicateSettings(Settings):
    """Boilerplate: lines that many documents share."""

    min_chars: int = Field(default=30, ge=1)
    """Characters below which a line is left alone."""

    max_copies: int = Field(default=5, ge=1)
    """How many copies of a line stay, in reading order; those beyond are cut out of their documents."""


class NearSettings(Settings):
    """Near duplicates: MinHash signatures over runs of words, compared in bands."""

    ngram: int = Field(default=5, ge=1, le=32)
    """Words of a shingle. Case, marks and punctuation don't count."""

    bands: int = Field(default=16, ge=1, le=256)
    """Bands of a signature. Two documents are compared if one of their bands is equal."""

    rows: int = Field(default=7, ge=1, le=64)
    """Hashes of a band. Documents of Jaccard similarity s share a band with probability 1 - (1 - s^rows)^bands."""

    verify: float = Field(default=0.70, gt=0, le=1)
    """The similarity, estimated from whole signatures, from which the later one is dropped."""


class DecontaminateSettings(Settings):
    """Documents that hold items of an evaluation."""

    YOUNGER = frozenset({"window", "max_cuts"})

    against: tuple[str, ...] = Field(min_length=1)
    """Files of evaluation texts: JSON Lines or one JSON array, of which each string is an item, or text, of which each
    line is one. Patterns as in `inputs`; compressed ones are read, too."""

    ngram: int = Field(default=13, ge=2, le=64)
    """Words that must follow each other as in an item. Items of 5 words and more but fewer than this are matched
    whole; shorter ones can't be checked, and are counted."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Share of an item's runs of words that a document must hold to be dropped. `cut` takes out every run."""

    max_documents: int = Field(default=10, ge=1)
    """Runs of words that stand in more documents than this are ignored: they are well-known quotations."""

    action: Literal["drop", "cut"] = "drop"
    """`drop` leaves out documents that hold `share` of an item. `cut` takes each run out of its text, with `window`
    characters on both sides; it reads all inputs twice."""

    window: int = Field(default=200, ge=0, le=10_000)
    """Characters on both sides of a run that `cut` takes out, too, since answers stand beside questions; up to the end
    of a word. Pieces of text that are left and shorter than this go as well. 200 as in GPT-3."""

    max_cuts: int = Field(default=9, ge=0)
    """Cuts beyond which `cut` drops a document as `shredded`. 9 leave ten pieces, as in GPT-3."""

    @field_validator("against", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _of_the_other_action(self) -> "DecontaminateSettings":
        names = ("share",) if self.action == "cut" else ("window", "max_cuts")
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                other = "drop" if self.action == "cut" else "cut"
                raise ValueError(f"{name} means something with action: {other} only: leave it out")
        return self


class MixingSettings(Settings):
    """Shares of languages or of inputs, evened out."""

    by: Literal["language", "source"] = "source"
    """What is evened out: languages, which `clean.languages` finds, or inputs."""

    temperature: float = Field(default=0.5, ge=0, le=1)
    """Shares of tokens go as counts to this power: 1 leaves them, 0 makes them equal, 0.5 is between, as in the last
    phase of mmBERT. The smallest groups are repeated up to `max_repeats` times, the largest thinned."""

    max_repeats: float = Field(default=4.0, ge=1, le=100)
    """How often a document is repeated at most."""


class DeduplicateSettings(Settings):
    """Which copies are dropped."""

    YOUNGER = frozenset({"lines", "near"})

    exact: bool = True
    """Drop a document whose cleaned text another one had before. The first in reading order stays."""

    lines: LineDuplicateSettings | None = None
    """Cut lines that many documents share, before documents are scored and tokenized. It reads all inputs twice."""

    near: NearSettings | None = None
    """Drop documents that are almost the same as another one. Of a family the one that stays is of the first input;
    then the longest; then of the smallest id."""

    @field_validator("lines", "near", mode="before")
    @classmethod
    def _on(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value


class CleanSettings(Settings):
    """What happens to each text before it is hashed, and what keeps it: its document id is the hash of the result."""

    YOUNGER = frozenset(
        {"fix_encoding", "languages", "lines", "domains", "classifier", "privacy", "custom", "max_words_removed"}
    )
    # They decide over stored scores, so no prepared unit and no trained tokenizer depends on them.
    THRESHOLDS: ClassVar[frozenset[str]] = frozenset({"min_chars", "max_words_removed"})

    unicode: Literal["NFC", "none"] = "NFC"
    """Normal form of the text. NFC makes equal what looks equal, so that copies are found; `none` leaves the text as it
    is."""

    min_chars: int = Field(default=100, ge=0)
    """Characters below which a document is dropped as `too_short`. 100 drops headings and navigation; take 0 where each
    line is a document."""

    bad_bytes: Literal["quarantine", "replace"] = "quarantine"
    """What happens to a document with bytes that its encoding doesn't allow: it is put into quarantine, or each bad
    sequence becomes U+FFFD."""

    fix_encoding: bool = False
    """Find the charset of text where none is declared, and mend lines of text that was decoded with a wrong one, such
    as `cafÃ©`."""

    privacy: tuple[PrivateKind, ...] = ()
    """Addresses and numbers of persons, replaced by the tokenizer's own placeholder where it has one, else by `<EMAIL>`
    and the like; counted."""

    languages: LanguageSettings | None = None
    """The language of each document, and which ones stay."""

    lines: tuple[LineEdit, ...] = ()
    """Lines that are cut out of documents, by the rules of C4 or RefinedWeb. What they take away is counted."""

    max_words_removed: float = Field(default=1.0, gt=0, le=1)
    """The share of words that `lines` may take from a document; above it the document is dropped as `lines_removed`.
    RefinedWeb has 0.05."""

    domains: DomainSettings | None = None
    """Hosts whose documents are dropped."""

    classifier: ClassifierSettings | None = None
    """A fastText model of yours that keeps or drops."""

    custom: tuple[str, ...] = ()
    """Filters of yours, as `package.module:function`: each gets a RecordBatch (`text`, and the fields that are kept)
    and returns a boolean for each document, True to keep it, or a number, which is stored as a score."""

    @model_validator(mode="after")
    def _needs_lines(self) -> "CleanSettings":
        if self.max_words_removed < 1 and not self.lines:
            raise ValueError("max_words_removed is set, but no `lines` are removed: set lines: [refinedweb]")
        return self

    def without_thresholds(self) -> dict[str, Any]:
        """What prepared documents depend on, as plain JSON types; not where files are: see `find_assets`."""
        values = self.model_dump(mode="json", exclude=set(self.THRESHOLDS))
        for name in ("languages", "classifier"):
            settings: Scored | None = getattr(self, name)
            if settings is not None:
                values[name] = settings.without_thresholds()
                del values[name]["path"]
        if self.domains is not None:
            del values["domains"]["drop"]
        return values

    def of_text(self) -> dict[str, Any]:
        """The part that changes texts: what a trained tokenizer depends on."""
        names = ("fix_encoding", "privacy", "lines")
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name in ("unicode", "bad_bytes") or (name in names and value)
        }
