"""Which quality rules hold for an input, and their thresholds: the settings behind `quality:` in `premask.yaml`.

Four presets, each off unless it is named. A threshold that is null switches its rule off. What each rule counts, and
where it comes from, is written in `mlm_data.curation.quality`; this module holds only numbers and how to write them:

    quality: gopher_quality                                   # one preset, its defaults
    quality: [gopher_repetition, {gopher_quality: {min_words: 30}}, {words: spacy}]
    quality: {c4: true, fineweb: {max_short_lines: null}}     # true or nothing: the defaults; false: off

Scores are stored, thresholds are applied to them later. `score_key` is what stored scores depend on; everything else
can change without reading a text again.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mlm_data.settings import Settings

PRESETS = ("gopher_repetition", "gopher_quality", "c4", "fineweb")  # in the order in which they judge a document
MILLION = 1_000_000  # thresholds are compared in millionths, as integers


def _in_millionths(value: float | None) -> float | None:
    """Refuse what a comparison in millionths would round."""
    if value is not None and float(f"{value:.6f}") != value:
        raise ValueError(f"must have at most six decimals, got {value!r}")
    return value


Share = Annotated[float | None, Field(ge=0, le=1), AfterValidator(_in_millionths)]
PerWord = Annotated[float | None, Field(ge=0, le=1000), AfterValidator(_in_millionths)]
Count = Annotated[int | None, Field(ge=0, lt=2**31)]


class PresetSettings(Settings):
    """Base of the presets: some fields are thresholds over scores, the others decide what is scored."""

    SCORED: ClassVar[frozenset[str]] = frozenset()  # fields that stored scores depend on


class GopherRepetitionSettings(PresetSettings):
    """Text that says the same again and again (Gopher, table A1). Shares are of the text's characters, if not said
    otherwise; null switches a rule off.
    """

    max_repeated_paragraphs: Share = 0.30
    """Largest share of the paragraphs that may be later copies of another one."""

    max_repeated_paragraph_chars: Share = 0.20
    """Largest share of the characters that may be in such copies."""

    max_repeated_lines: Share = 0.30
    """Largest share of the lines that may be later copies of another one."""

    max_repeated_line_chars: Share = 0.20
    """Largest share of the characters that may be in such copies."""

    max_top_2_gram: Share = 0.20
    """Largest share of the characters that the commonest pair of words may make up."""

    max_top_3_gram: Share = 0.18
    """The same for three words in a row."""

    max_top_4_gram: Share = 0.16
    """The same for four words in a row."""

    max_repeated_5_grams: Share = 0.15
    """Largest share of the characters that may be in runs of five words that stood in the text before."""

    max_repeated_6_grams: Share = 0.14
    """The same for runs of six words."""

    max_repeated_7_grams: Share = 0.13
    """The same for runs of seven words."""

    max_repeated_8_grams: Share = 0.12
    """The same for runs of eight words."""

    max_repeated_9_grams: Share = 0.11
    """The same for runs of nine words."""

    max_repeated_10_grams: Share = 0.10
    """The same for runs of ten words."""


class GopherQualitySettings(PresetSettings):
    """Text that doesn't look like prose (Gopher, section A1.1). Null switches a rule off."""

    min_words: Count = 50
    """Fewest words that aren't punctuation alone."""

    max_words: Count = 100_000
    """Most words that aren't punctuation alone. A long novel has more: set it to null for books."""

    min_mean_word_chars: PerWord = 3
    """Smallest mean length of these words, in characters."""

    max_mean_word_chars: PerWord = 10
    """Largest mean length of these words, in characters."""

    max_hashes_per_word: PerWord = 0.1
    """Most `#` for each word."""

    max_ellipses_per_word: PerWord = 0.1
    """Most ellipses (`...` or `…`) for each word."""

    max_bullet_lines: Share = 0.9
    """Largest share of the lines that may begin with a bullet (`•` or `-`)."""

    max_ellipsis_lines: Share = 0.3
    """Largest share of the lines that may end in an ellipsis."""

    min_alphabetic_words: Share = 0.8
    """Smallest share of the words that must hold a letter. With `words: spacy` punctuation marks are words, and
    technical text and law fall below this."""

    min_stop_words: Count = 2
    """How many different stop words of the document's language must stand in it."""


class C4Settings(PresetSettings):
    """What would be left under C4's line rules, and whether that is worth keeping (Raffel et al. 2020, section 2.2).

    The text itself stays as it is: `clean.lines: [c4]` is what takes lines away.
    """

    SCORED = frozenset(
        {"terminal_punctuation", "min_words_per_line", "max_word_chars", "javascript_lines", "policy_lines"}
    )

    terminal_punctuation: bool = True
    """Whether only lines that end in one of `. ? ! " '` count. Hard-wrapped text has few; FineWeb's recipe says
    false."""

    min_words_per_line: int = Field(default=3, ge=0, lt=2**31)
    """Lines of fewer words don't count."""

    max_word_chars: int = Field(default=1000, ge=1, lt=2**31)
    """Lines with a longer word don't count."""

    javascript_lines: bool = True
    """Whether lines that say "javascript" don't count."""

    policy_lines: bool = True
    """Whether lines about cookies, terms of use or privacy policies don't count."""

    lorem_ipsum: bool = True
    """Whether "lorem ipsum" in a line that counts drops the document."""

    curly_bracket: bool = True
    """Whether `{` in a line that counts drops the document. It does so to most source code."""

    min_sentences: Count = 5
    """Fewest sentences in the lines that count."""


class FinewebSettings(PresetSettings):
    """Lists, menus and repeated lines (FineWeb, section 3.6 of Penedo et al. 2024). Null switches a rule off."""

    SCORED = frozenset({"short_line_chars"})

    min_terminated_lines: Share = 0.12
    """Smallest share of the lines that must end in the punctuation of a sentence."""

    max_short_lines: Share = 0.67
    """Largest share of the lines that may be short."""

    short_line_chars: int = Field(default=30, ge=0, lt=2**31)
    """A line of at most so many characters is short."""

    max_repeated_line_chars: Share = 0.01
    """Largest share of the characters that may be in later copies of a line."""

    max_line_feeds_per_word: PerWord = 0.3
    """Most line feeds for each word."""


class QualitySettings(Settings):
    """The presets that are on, and what a word is."""

    gopher_repetition: GopherRepetitionSettings | None = None
    """Drops text that repeats itself. Left out or false: off."""

    gopher_quality: GopherQualitySettings | None = None
    """Drops text that doesn't look like prose. Left out or false: off."""

    c4: C4Settings | None = None
    """Drops text of which C4's line rules would leave too little. Left out or false: off."""

    fineweb: FinewebSettings | None = None
    """Drops lists and menus. Left out or false: off."""

    words: Literal["space", "spacy"] = "space"
    """What the rules count as a word: what stands between white space, or the tokens of spaCy's English tokenizer, in
    which punctuation marks are words, as datatrove counts (slower; needs the extra `premask[spacy]`)."""

    by_language: bool = True
    """Whether a threshold that is left at its default is that of the document's language, where one is known for it.
    False: the same thresholds for all."""

    @model_validator(mode="before")
    @classmethod
    def _any_spelling(cls, value: Any) -> Any:
        """A name, a list of names and mappings, or a mapping whose null and true mean the defaults."""
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple):
            merged: dict[Any, Any] = {}
            for item in value:
                if not isinstance(item, str | dict):
                    raise ValueError(f"write names of presets, or `name: {{threshold: value}}`, got {item!r}")
                named = {item: True} if isinstance(item, str) else item
                twice = sorted(str(name) for name in merged.keys() & named.keys())
                if twice:
                    raise ValueError(f"names {', '.join(twice)} twice")
                merged |= named
            value = merged
        if not isinstance(value, dict):
            return value
        known = list(cls.model_fields)
        unknown = [str(name) for name in value if name not in known]
        if unknown:
            raise ValueError(
                f"unknown preset {', '.join(map(repr, unknown))}: there are {', '.join(PRESETS)}; "
                "`words` and `by_language` may stand beside them"
            )
        return {name: _preset(name, inner) if name in PRESETS else inner for name, inner in value.items()}

    @model_serializer(mode="wrap")
    def _leave_out_what_is_off(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Presets that are off aren't written, so that what is written reads back as it was."""
        return {name: value for name, value in serialize(self).items() if value is not None}

    @property
    def presets(self) -> tuple[str, ...]:
        """Names of the presets that are on, in the order in which they judge a document."""
        return tuple(name for name in PRESETS if getattr(self, name) is not None)

    def score_key(self) -> dict[str, Any]:
        """What stored scores depend on: presets that are on, with their settings that are no thresholds; and `words`.

        Empty without presets. Two settings with equal keys have equal scores, whatever their thresholds.
        """
        if not self.presets:
            return {}
        scored = {
            name: {field: getattr(preset, field) for field in sorted(preset.SCORED)}
            for name in self.presets
            if (preset := getattr(self, name)) is not None
        }
        return {"presets": scored, "words": self.words}


def _preset(name: str, value: Any) -> Any:
    """What a preset's value means: a bare name, true and null are its defaults, false is off."""
    if value is True or value is None:
        return {}
    return None if value is False else value
