"""Files that hold no text that can be read here, known by their first bytes, and what to do with each.

An entry is looked for at the first byte of the file, after decompression. Where the magic could begin a text, too,
the entry asks for more than the magic: "MZ" must be followed by a NUL, "BM" by a plausible header.
"""

import re
from dataclasses import dataclass

HEAD_BYTES = 512  # of a file: enough for every entry here; tar has its magic at 257


@dataclass(frozen=True)
class Foreign:
    """What such a file is, as one says it ("a PDF"), and the remedy, with {path} for the file."""

    name: str
    remedy: str
    is_text: bool = False  # it could be read as text, and is, where the input says `format: text`


_UNPACK = "unpack it first: {}"
_LEAVE_OUT = "leave it out of the glob"
_TO_TEXT = "make text of it first, for example with {}"
_PICKLE = "a pickle can run any code and is never loaded: save the texts as JSON Lines"

_ZIPS = (  # by what stands in the first 512 bytes of a zip archive
    (rb"mimetypeapplication/epub", Foreign("an EPUB book", _TO_TEXT.format("pandoc {path} -t plain -o book.txt"))),
    (
        rb"mimetypeapplication/vnd\.oasis|\[Content_Types\]\.xml|word/|xl/|ppt/|_rels/",
        Foreign("an office document", _TO_TEXT.format("pandoc {path} -t plain -o text.txt")),
    ),
    (rb"/data\.pkl|/byteorder", Foreign("a PyTorch checkpoint", _PICKLE)),
    (rb"[^/]\.npy", Foreign("a NumPy archive (.npz)", "save the texts as JSON Lines or Parquet")),
    (rb"META-INF/", Foreign("a Java archive", _LEAVE_OUT)),
    (rb"", Foreign("a zip archive", _UNPACK.format("unzip {path}"))),
)

_FOREIGN = (
    (rb".{257}ustar[\0 ]", Foreign("a tar archive", _UNPACK.format("tar -xf {path}"))),
    (rb"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", _UNPACK.format("7z x {path}"))),
    (rb"Rar!\x1a\x07", Foreign("a RAR archive", _UNPACK.format("unrar x {path}"))),
    (
        rb"\x5d\0\0.{2}(?:\xff{8}|.{5}\0{3})|LZIP[\0\1]",
        Foreign("an LZMA stream of the old kind", _UNPACK.format("xz -d --format=lzma {path}, or lzip -d {path}")),
    ),
    (rb"\x1f[\x9d\xa0]", Foreign("a file of `compress` (.Z)", _UNPACK.format("gzip -d {path}"))),
    (rb"\xff\x06\0\0sNaPpY", Foreign("a Snappy stream", _UNPACK.format("snzip -d {path}"))),
    (rb"!<arch>\n", Foreign("an ar archive", _LEAVE_OUT)),
    (rb"%PDF-", Foreign("a PDF", _TO_TEXT.format("pdftotext {path}"))),
    (rb"%!PS", Foreign("PostScript", _TO_TEXT.format("ps2ascii {path}"), is_text=True)),
    (rb"\{\\rtf", Foreign("rich text (RTF)", _TO_TEXT.format("pandoc {path} -t plain -o text.txt"), is_text=True)),
    (
        rb"filedesc://\S+ \S+ \d{8}",
        Foreign(
            "a web archive of the old kind (ARC)",
            "make a WARC of it first, for example with warcio recompress {path} pages.warc.gz",
            is_text=True,
        ),
    ),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        Foreign("an old office document (doc, xls, ppt)", _TO_TEXT.format("libreoffice --convert-to txt {path}")),
    ),
    (
        rb"SQLite format 3\0",
        Foreign(
            "an SQLite database", 'export it first: sqlite3 -csv -header {path} "select id, text from …" > texts.csv'
        ),
    ),
    (rb".{8}DUCK.\0{7}", Foreign("a DuckDB database", "export it first: copy … to 'texts.parquet'")),
    (rb"\x93NUMPY", Foreign("a NumPy array (.npy)", "save the texts as JSON Lines or Parquet")),
    (rb"\x80[\x02-\x05](?:\x95.{6}\0\0|[c\x8a}\]()])", Foreign("a pickle", _PICKLE)),
    (rb"\x89HDF\r\n\x1a\n|CDF[\1\2\5]", Foreign("an HDF5 or NetCDF file", "save the texts as JSON Lines or Parquet")),
    (
        rb"FEA1\0",
        Foreign("a Feather file of version 1", "write it again with pyarrow.feather.write_feather (version 2)"),
    ),
    (rb"PARE..\0\0", Foreign("an encrypted Parquet file", "decrypt it first")),
    (rb"Obj\x01", Foreign("an Avro file", "write it again as Parquet")),
    (rb"ORC[\0-\x1f]", Foreign("an ORC file", "write it again as Parquet")),
    (rb".{4}\0{4}\{\"", Foreign("a safetensors file", _LEAVE_OUT)),
    (
        rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|BM.{4}\0{4}|RIFF.{4}WEBP",
        Foreign("an image", _LEAVE_OUT),
    ),
    (rb"ID3[\2-\4]|\xff[\xfb\xf3]|OggS\0|fLaC\0|RIFF.{4}WAVE|MThd\0", Foreign("a sound file", _LEAVE_OUT)),
    (rb"\0\0\0.ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", Foreign("a video", _LEAVE_OUT)),
    (rb"\x7fELF|MZ.{1,126}\0\0|\xca\xfe\xba\xbe\0|[\xce\xcf]\xfa\xed\xfe|\0asm", Foreign("a program", _LEAVE_OUT)),
    (rb"wOF[F2]|\0\x01\0\0\0|OTTO\0", Foreign("a font", _LEAVE_OUT)),
)
_RULES = [(re.compile(pattern, re.DOTALL), foreign) for pattern, foreign in _FOREIGN]
_ZIP = re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)")
_ZIP_RULES = [(re.compile(pattern), foreign) for pattern, foreign in _ZIPS]


def find_foreign(head: bytes) -> Foreign | None:
    """What a file that begins with `head` is, if that is nothing to be read here.

    >>> find_foreign(b"%PDF-1.7").name
    'a PDF'
    >>> find_foreign(b"Some text.") is None
    True
    """
    head = head[:HEAD_BYTES]
    rules = _ZIP_RULES if _ZIP.match(head) else _RULES
    search = "search" if rules is _ZIP_RULES else "match"
    return next((foreign for pattern, foreign in rules if getattr(pattern, search)(head)), None)
