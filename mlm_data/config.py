"""The one file that describes a build: `premask.yaml`, read into frozen, checked settings.

`load_config` reads YAML 1.2, applies overrides (`mask.rate=0.15`) and returns a `BuildConfig` or raises one
`ConfigError` whose line names the field, the value and the remedy. `semantic` is the part of a configuration that
the dataset's bytes may depend on: it enters the digest. Names, places, engines and workers do not.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mlm_data.curation_settings import CleanSettings, DecontaminateSettings, DeduplicateSettings, MixingSettings
from mlm_data.quality_settings import QualitySettings
from mlm_data.settings import Settings, apply_overrides, parse_settings, read_yaml

Compression = Literal["none", "zstd", "lz4"]
TEXTS_ONLY: Mapping[str, Any] = {"output": "none", "tokenizer": {"path": "none"}}
"""For what makes no dataset: stands for what a configuration file may leave out. It looks at neither."""


class InputSettings(Settings):
    """Files to read. `path` may be a glob (`**` crosses folders); it is relative to the configuration's folder."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"delimiter", "extract", "quality", "weight", "word_field"})

    path: str
    """A file, or a pattern of files (`*`, `?`, `[ab]`; `**` crosses folders). Relative to the configuration's folder;
    `gs://` and `s3://` work too. A path that exists as it is written is taken literally."""

    name: str = ""
    """Put before the files' relative paths. Needed only where two inputs would have equal paths."""

    format: Literal["auto", "text", "jsonl", "json", "csv", "tsv", "fasta", "parquet", "arrow", "warc", "html"] = "auto"
    """How the files are read. `auto` looks at each file's bytes and name, and `premask plan` shows what it found and
    why."""

    documents: Literal["file", "line", "paragraph"] = "file"
    """What one document of a text file is. A line ends at LF, CRLF or CR, a paragraph at an empty line. Text files
    only."""

    encoding: str = "utf-8"
    """Of text files, as Python names it. A byte order mark in a file wins over it."""

    text_field: str | tuple[str, ...] = "text"
    """The field or column that holds the text. Several are joined with a blank line between them; those that are null
    or absent are left out. `a.b` means field b of the object in field a, here and in the two below; `a[].b` means field
    b of each object in the list in field a. A list of strings is joined with blank lines, too."""

    id_field: str | None = None
    """The field that holds your own id, kept beside each document. None: there is none."""

    keep_fields: tuple[str, ...] = ()
    """Further fields to keep beside each document, such as a date or a licence. One of them may decide the split."""

    word_field: str | None = None
    """The field that holds the words of the text, a list of strings in order, such as a Chinese segmenter makes. They
    decide what `mask.kind: whole_word` and `span` hide together. Joined they must be the text, white space aside. None:
    the tokenizer says where words begin."""

    delimiter: str | None = None
    """What stands between the fields of a CSV or TSV file: one ASCII character. None: a comma, in TSV a tab."""

    quality: QualitySettings = QualitySettings()
    """Quality presets, off by default: `gopher_repetition`, `gopher_quality`, `c4`, `fineweb`. They are made for pages
    of the web, and drop much of law, source code and technical text: `premask plan` forecasts what they would drop."""

    weight: float = Field(default=1.0, gt=0, le=100)
    """How often each document is in the dataset: 2 repeats it, with masks of its own, 0.5 keeps every other one, chosen
    by its hash, 1.5 repeats half of them. Applied after duplicates are gone."""

    extract: Literal["resiliparse", "trafilatura", "none"] = "resiliparse"
    """Who finds the main text of a web page: `resiliparse`, which is fast, or `trafilatura`, which is ten times slower
    and more exact on news. `none` leaves the page as it is, with its tags. WARC and HTML only."""

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in '"\r\n\0'):
            raise ValueError(f"must be one ASCII character, and no quote or line end, got {value!r}: ';' or '\\t'")
        return value

    @field_validator("text_field")
    @classmethod
    def _text_field(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, str):
            return value
        if not value:
            raise ValueError("name at least one field")
        if len(set(value)) < len(value):
            raise ValueError(f"names a field twice: {', '.join(value)}")
        return value if len(value) > 1 else value[0]

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The fields that make the text, in order."""
        return (self.text_field,) if isinstance(self.text_field, str) else self.text_field


DEFAULT_COVERAGE = {"wordpiece": 0.9995, "bpe": 1.0, "unigram": 0.9995, "characters": 1.0}


class TokenizerTraining(Settings):
    """How to train a tokenizer. Training the same inputs again gives the same file."""

    kind: Literal["wordpiece", "bpe", "unigram", "characters"] = "wordpiece"
    """`wordpiece` as in BERT, byte-level `bpe` as in RoBERTa and ModernBERT, `unigram` as in T5, or `characters`: each
    character but white space is a token and a word, for proteins, DNA and SMILES."""

    vocab_size: int = Field(default=8192, ge=64, le=2**31 - 1)
    """Tokens at most, special tokens among them; characters come first, then pieces. 8,192 suits small models and one
    language; 32,768 and more suit large ones. At least 64, for special tokens and letters; ids have at most 31 bits."""

    lowercase: bool = True
    """Whether capitals become small letters. WordPiece only; the other kinds keep them."""

    strip_accents: bool = False
    """Whether accents are dropped, as in uncased BERT; with them go the vowel signs of Hindi, the voicing marks of
    Japanese and the tones of Vietnamese. WordPiece only."""

    coverage: float | None = Field(default=None, gt=0, le=1)
    """Share of the text that characters with a token make up, the most frequent first; the others are unknown. None:
    0.9995 as in sentencepiece, and 1 for `characters`, which are few. Byte-level BPE can spell everything."""

    sample_bytes: int = Field(default=256 * 2**20, ge=1)
    """Bytes of text to train on at most, chosen by hash. It bounds the time and memory that training takes."""

    @model_validator(mode="after")
    def _settings_of_the_kind(self) -> "TokenizerTraining":
        if self.strip_accents and self.kind != "wordpiece":
            raise ValueError(
                f"strip_accents is for wordpiece, and kind is {self.kind}, which keeps accents: leave it out"
            )
        if self.coverage is not None and self.coverage < 1 and self.kind == "bpe":
            raise ValueError(f"coverage is {self.coverage:g}, and kind bpe spells every text with bytes: leave it out")
        return self

    @property
    def alphabet_coverage(self) -> float:
        """`coverage`, or the kind's default."""
        return DEFAULT_COVERAGE[self.kind] if self.coverage is None else self.coverage


class SpecialTokens(Settings):
    """Which token plays which role; None: detect it."""

    cls: str | None = None
    """The token before each segment, such as `[CLS]` or `<s>`. None: detected."""

    sep: str | None = None
    """The token after each segment, such as `[SEP]` or `</s>`. None: detected."""

    pad: str | None = None
    """The token that fills a row's end. None: detected."""

    mask: str | None = None
    """The token that hides a target. None: detected."""

    unk: str | None = None
    """The token for what the vocabulary can't spell. It is never a target. None: detected."""


class TokenizerSettings(Settings):
    """Either `path` or `train`."""

    path: str | None = None
    """Your own tokenizer: a tokenizer.json of HF `tokenizers`, a BERT vocab.txt, a sentencepiece `.model`, or a folder
    that holds one of these, or vocab.json and merges.txt. Either this or `train`."""

    train: TokenizerTraining | None = None
    """Train one on the inputs. Either this or `path`."""

    lowercase: bool | None = None
    """For a vocab.txt, which doesn't say whether capitals become small letters. None: its tokenizer_config.json
    decides, and without one its tokens do."""

    strip_accents: bool | None = None
    """For a vocab.txt, likewise: whether accents and other nonspacing marks are dropped."""

    special: SpecialTokens = SpecialTokens()
    """Which token plays which role, where it can't be detected."""

    markers: tuple[str, ...] = ()
    """Tokens of the vocabulary that stay whole in raw text, such as `[DRUG]`. Others that are written out in a text are
    cut into ordinary tokens."""

    max_unknown: float = Field(default=0.25, ge=0, le=1)
    """Share of the unknown token among all tokens; above it the build fails. A quarter is far beyond rare letters: such
    a tokenizer was made for another script."""

    engine: Literal["auto", "words", "huggingface"] = "auto"
    """Who makes the ids: our word table, or HF `tokenizers`. The ids are the same, the speed is not; `auto` takes the
    word table where it can."""

    @model_validator(mode="after")
    def _one_source(self) -> "TokenizerSettings":
        if (self.path is None) == (self.train is None):
            raise ValueError("give either `path` (a tokenizer.json) or `train` (kind, vocab_size), and not both")
        for name in ("lowercase", "strip_accents"):
            if self.train is not None and getattr(self, name) is not None:
                raise ValueError(f"{name} is for a vocab.txt, and the tokenizer is to be trained: set train.{name}")
        return self


class PackSettings(Settings):
    """How documents fill rows."""

    sequence_length: int = 512
    """Tokens of one row, written L. A multiple of 8, because planes store eight places in a byte; from 16 to 65,536,
    because places are stored in 16 bits."""

    long_documents: Literal["split", "truncate"] = "split"
    """What happens to a document longer than a row. `split` goes on in further rows; `truncate` drops the rest, and
    counts it."""

    max_segments: int | None = Field(default=None, ge=1)
    """Pieces of documents that a row may hold at most. None: L / 32, at least 8. Flash attention takes memory for each
    one that a batch might have."""

    @field_validator("sequence_length")
    @classmethod
    def _length(cls, value: int) -> int:
        if value % 8 or not 16 <= value <= 65536:
            down, up = max(16, value // 8 * 8), max(16, min(65536, -(-value // 8) * 8))
            raise ValueError(
                f"must be a multiple of 8 between 16 and 65536, got {value}: use "
                + (f"{down}" if down == up else f"{down} or {up}")
            )
        return value

    @property
    def segments_per_row(self) -> int:
        """The largest number of segments that a row may hold."""
        return self.max_segments or max(8, self.sequence_length // 32)


class MaskSettings(Settings):
    """How each plane hides tokens. Rates count in millionths, so that floor(rate * n) is exact."""

    YOUNGER = frozenset({"ngram", "seed"})

    planes: int = Field(default=4, ge=1, le=1024)
    """Training masks stored beside the tokens; epoch e reads plane e mod K. Have about as many as you train epochs.
    1,024 at most, as the format has it."""

    kind: Literal["token", "whole_word", "span", "ngram"] = "token"
    """What is hidden together: single tokens, whole words, runs of words as in SpanBERT, or runs of exactly `ngram`
    tokens, for overlapping k-mers of DNA."""

    ngram: int | None = Field(default=None, ge=2, le=512)
    """Tokens of a run, for `kind: ngram`, and only there: the k of your k-mers. At least 2; a run must fit into a row's
    share of targets, so 512 is far beyond use."""

    rate: float | tuple[float, ...] = 0.30
    """Share of a row's maskable tokens that are targets: one for all planes, or a list with one for each. 0.15 is
    BERT's, 0.30 ModernBERT's. At most 0.95, so that something is left to predict from."""

    mask_share: float = Field(default=0.8, ge=0, le=1)
    """Share of the targets that the model sees as the mask token. The three shares add up to 1; 0.8, 0.1, 0.1 are
    BERT's."""

    random_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the targets that the model sees as a random token."""

    keep_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the targets that the model sees as they are."""

    markers: bool = False
    """Whether `tokenizer.markers` may be targets, too."""

    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Of the masks alone. None: the build's `seed`. `premask remask --seed` sets it: other masks, the same split."""

    @field_validator("rate")
    @classmethod
    def _rate(cls, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
        for rate in value if isinstance(value, tuple) else (value,):
            if not 0.000_001 <= rate <= 0.95:
                raise ValueError(f"must be above 0 and at most 0.95, got {rate:g}: 0.15 and 0.30 are usual")
        return value

    @model_validator(mode="after")
    def _length_of_runs(self) -> "MaskSettings":
        if self.kind == "ngram" and self.ngram is None:
            raise ValueError("kind is ngram: say how many tokens a run has, the k of your k-mers: ngram: 6")
        if self.kind != "ngram" and self.ngram is not None:
            raise ValueError(f"ngram is {self.ngram}, and kind is {self.kind}: set kind: ngram, or leave ngram out")
        return self

    @model_validator(mode="after")
    def _adds_up(self) -> "MaskSettings":
        total = self.mask_share + self.random_share + self.keep_share
        if abs(total - 1) > 1e-6:
            raise ValueError(f"mask_share + random_share + keep_share must be 1, got {total:g}")
        if isinstance(self.rate, tuple) and len(self.rate) != self.planes:
            raise ValueError(f"rate has {len(self.rate)} values for {self.planes} planes: give one for each")
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """One rate per plane."""
        return self.rate if isinstance(self.rate, tuple) else (self.rate,) * self.planes


class SplitSettings(Settings):
    """What is held out: chosen by a hash threshold, so that a document never changes sides."""

    validation: float = Field(default=0.01, ge=0, lt=1)
    """Share of the documents to hold out. 0: no validation split is wanted. A small share of a few large documents may
    be empty, and then the build fails."""

    by: str = "document"
    """What stays together on one side: `document`, `source` (a file), or one of `keep_fields`."""


class CacheSettings(Settings):
    """What is kept from one build to the next, and how a file is known to be unchanged."""

    identity: Literal["stat", "content"] = "stat"
    """How the cache knows that a file is unchanged: `stat` by its size and time (or etag), `content` by all of its
    bytes, which takes longer."""

    max_bytes: int | None = Field(default=None, ge=0)
    """How many bytes may stay in `work/` after a build: what was used longest ago goes first. What a running build
    needs stays, whatever it takes. None: twice what the build has used, so that the one before stays beside it."""


class StorageSettings(Settings):
    """How buckets are reached, for all `s3://` and `gs://` URIs of a configuration that don't say it themselves."""

    endpoint: str | None = None
    """Address of a store that is not Amazon's or Google's own, such as `http://minio:9000`."""

    region: str | None = None
    """The bucket's region (S3)."""

    anonymous: bool = False
    """Send no credentials."""

    def apply(self, uri: str) -> str:
        """A URI that says it itself; others stay as they are.

        >>> StorageSettings(endpoint="http://minio:9000", anonymous=True).apply("s3://bucket/a")
        's3://anonymous@bucket/a?endpoint_override=minio:9000&scheme=http'
        """
        scheme, separator, rest = uri.partition("://")
        if not separator or scheme not in ("s3", "gs", "gcs"):
            return uri
        options = []
        if self.endpoint is not None and "endpoint_override=" not in rest:
            kind, is_url, host = self.endpoint.rstrip("/").rpartition("://")
            options += [f"endpoint_override={host}", f"scheme={kind if is_url else 'https'}"]
        if self.region is not None and scheme == "s3" and "region=" not in rest:
            options.append(f"region={self.region}")
        if self.anonymous and "@" not in rest.split("/")[0]:
            rest = f"anonymous@{rest}"
        begin = "&" if "?endpoint_override=" in rest or "?region=" in rest else "?"
        return f"{scheme}://{rest}" + (begin + "&".join(options) if options else "")


class BuildConfig(Settings):
    """One build, whole."""

    YOUNGER = frozenset({"decontaminate", "mixing", "storage"})

    name: str = "dataset"
    """The dataset's name, shown to people. It changes no byte of the dataset."""

    inputs: tuple[InputSettings, ...] = Field(min_length=1)
    """What to read: at least one."""

    output: str
    """The dataset's folder. Relative to the configuration's folder; `gs://` and `s3://` work too."""

    tokenizer: TokenizerSettings
    """Where the tokenizer comes from."""

    clean: CleanSettings = CleanSettings()
    """What happens to each text before it is hashed."""

    deduplicate: DeduplicateSettings = DeduplicateSettings()
    """Which copies are dropped."""

    decontaminate: DecontaminateSettings | None = None
    """Evaluations whose items the dataset is not to hold."""

    mixing: MixingSettings | None = None
    """How shares of languages or inputs are evened out."""

    pack: PackSettings = PackSettings()
    """How documents fill rows."""

    mask: MaskSettings = MaskSettings()
    """How each plane hides tokens."""

    split: SplitSettings = SplitSettings()
    """What is held out for validation."""

    cache: CacheSettings = CacheSettings()
    """How unchanged files are recognized, and how much of what was made of them is kept."""

    storage: StorageSettings = StorageSettings()
    """How buckets are reached."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of all that is drawn: masks, the sample for the tokenizer, random tokens. Below 2^63, so that it is a signed
    64-bit integer."""

    max_quarantined: float = Field(default=0.01, ge=0, le=1)
    """Share of the documents, and of the bytes, that may be unreadable; above it the build fails. One in a hundred is
    more than the odd broken file."""

    max_truncated: int = Field(default=0, ge=0)
    """How many files may break off in the middle (compressed ones, arrays of JSON); above it the build fails. Such a
    file counts as one document, whatever it has lost, so that `max_quarantined` alone would not notice a download that
    ended early."""

    compression: Compression = "none"
    """Of the published files. `none` can be memory-mapped, which makes the loader fast; `zstd` and `lz4` are for cold
    storage."""

    unit_bytes: int | None = Field(default=None, ge=1024)
    """Bytes of input that one worker handles at a time. None: a 64th of the whole, between 1 and 64 MiB, so that
    workers are busy and a changed file redoes little. At least 1,024."""

    @property
    def cuts_evaluations(self) -> bool:
        """Whether items of evaluations are cut out of texts, which changes them, instead of dropping documents."""
        return self.decontaminate is not None and self.decontaminate.action == "cut"

    @property
    def is_surveyed(self) -> bool:
        """Whether all texts are looked at before the first is scored and tokenized."""
        return self.deduplicate.lines is not None or self.cuts_evaluations

    @model_validator(mode="after")
    def _split_field(self) -> "BuildConfig":
        kept = {field for item in self.inputs for field in item.keep_fields}
        if self.split.by not in {"document", "source"} | kept:
            raise ValueError(f"split.by: {self.split.by!r} is neither document, source nor one of keep_fields")
        return self

    @model_validator(mode="after")
    def _words_of_edited_texts(self) -> "BuildConfig":
        edits = [f"clean.{name}" for name in ("fix_encoding", "privacy", "lines") if getattr(self.clean, name)]
        edits += ["deduplicate.lines"] if self.deduplicate.lines is not None else []
        edits += ["decontaminate.action: cut"] if self.cuts_evaluations else []
        for number, item in enumerate(self.inputs):
            if item.word_field is not None and edits:
                raise ValueError(
                    f"inputs.{number}.word_field: {edits[0]} edits texts, and then their words no longer fit: leave "
                    "one of them out, or clean first (premask clean) and segment the result"
                )
        return self

    @model_validator(mode="after")
    def _domain_field(self) -> "BuildConfig":
        kept = {field for item in self.inputs for field in item.keep_fields}
        domains = self.clean.domains
        if domains is not None and domains.field not in kept:
            raise ValueError(
                f"clean.domains: no input keeps the field {domains.field!r}: set keep_fields: [{domains.field}], or "
                "name the field that holds the address"
            )
        return self

    @model_validator(mode="after")
    def _mixed_languages(self) -> "BuildConfig":
        if self.mixing is not None and self.mixing.by == "language" and self.clean.languages is None:
            raise ValueError("mixing.by is language, and no language is looked for: set clean.languages: {keep: all}")
        return self


def load_config(path: str | Path, overrides: Iterable[str] = (), *, defaults: Mapping[str, Any] = {}) -> BuildConfig:
    """Read a build's YAML file and apply `field=value` overrides.

    Relative paths in it are taken from the file's own folder. `defaults` stand for fields that the file doesn't have.

    Raises:
        ConfigError: for a missing file, YAML that does not parse, or a value that can't be right.
    """
    values = apply_overrides({**defaults, **read_yaml(path)}, overrides)
    return anchor(parse_settings(BuildConfig, values, where=str(path)), Path(path).resolve().parent)


def anchor(config: BuildConfig, folder: Path) -> BuildConfig:
    """Make the relative paths of a configuration absolute, from `folder`."""

    def absolute(value: str) -> str:
        if "://" in value:
            return config.storage.apply(value)
        return value if value.startswith("/") else str(folder / value)

    tokenizer = config.tokenizer
    if tokenizer.path is not None:
        tokenizer = tokenizer.model_copy(update={"path": absolute(tokenizer.path)})
    inputs = tuple(item.model_copy(update={"path": absolute(item.path)}) for item in config.inputs)
    clean, against = config.clean, config.decontaminate
    if clean.domains is not None:
        domains = clean.domains.model_copy(update={"drop": absolute(clean.domains.drop)})
        clean = clean.model_copy(update={"domains": domains})
    if clean.languages is not None and clean.languages.path is not None:
        languages = clean.languages.model_copy(update={"path": absolute(clean.languages.path)})
        clean = clean.model_copy(update={"languages": languages})
    if clean.classifier is not None:
        classifier = clean.classifier.model_copy(update={"path": absolute(clean.classifier.path)})
        clean = clean.model_copy(update={"classifier": classifier})
    if against is not None:
        against = against.model_copy(update={"against": tuple(map(absolute, against.against))})
    update = {"inputs": inputs, "output": absolute(config.output), "tokenizer": tokenizer, "clean": clean}
    return config.model_copy(update=update | {"decontaminate": against})


def semantic(config: BuildConfig, assets: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """The part of a configuration that the dataset's bytes may depend on, as plain JSON types.

    Args:
        config: the build.
        assets: (setting, hash of what it names), instead of paths of files.
    """
    full = config.model_dump(mode="json")
    for field in ("name", "output", "cache", "compression", "unit_bytes", "max_quarantined", "max_truncated"):
        del full[field]
    full.pop("storage", None)
    for item in full["inputs"]:
        del item["path"]
    # The tokenizer's own digest stands for what it was read from.
    for field in ("engine", "path", "max_unknown", "lowercase", "strip_accents"):
        del full["tokenizer"][field]
    # Settings that came later are left out where they are as it always was: datasets keep their digests.
    if config.tokenizer.train is not None and config.tokenizer.train.kind == "bpe":
        del full["tokenizer"]["train"]["strip_accents"], full["tokenizer"]["train"]["coverage"]
    if not full["tokenizer"]["markers"]:
        del full["tokenizer"]["markers"]
    for name, path in (("domains", "drop"), ("classifier", "path"), ("languages", "path")):
        if name in full["clean"]:
            del full["clean"][name][path]
    if "decontaminate" in full:
        del full["decontaminate"]["against"]
    if found := dict(assets):
        full["assets"] = found
    full["pack"] = semantic_pack(config.pack)
    full["mask"] = semantic_mask(config.mask)
    return full


def semantic_pack(settings: PackSettings) -> dict[str, Any]:
    """`pack` in a semantic configuration: defaults that depend on the length are worked out."""
    return settings.model_dump(mode="json") | {"max_segments": settings.segments_per_row}


def semantic_mask(settings: MaskSettings) -> dict[str, Any]:
    """`mask` in a semantic configuration: one rate for each plane; what came later is left out at its default."""
    full = settings.model_dump(mode="json") | {"rate": list(settings.rates)}
    if not settings.markers:
        del full["markers"]
    return full
