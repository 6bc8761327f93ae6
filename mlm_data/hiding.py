"""Secrets of URIs, such as `s3://key:secret@bucket/data`, are shown to nobody: in no message and in nothing printed."""

import re

# Every repetition is bounded, so that a text is looked through in a time that grows as it does.
_STORES = "s3|gs|gcs|abfss?"
_USER = r"([^/@\s:]{0,200})(?::|%3A)[^/\s]{0,2000}@"  # key and secret, as far as the last `@` before a `/`
_SLASHED = r"([^/@\s:%]{0,200})(?::|%3A)[^/@\s]{0,2000}/\S{0,200}(?:@|%40)"  # a secret whose `/` is not written as %2F
_NAMES = "secret|password|token|signature|account_key|sig"
_OPTION = re.compile(rf"([?&][\w-]{{0,40}}?(?:{_NAMES})[\w-]{{0,40}}=)[^&\s]+", re.IGNORECASE)
_OF_STORES = re.compile(rf"\b({_STORES})://(?:{_USER}|{_SLASHED})", re.IGNORECASE)
_OF_ANY = re.compile(rf"\b([\w+.-]{{1,20}})://{_USER}")


def hidden(text: str, *, of_stores: bool = False) -> str:
    """A text without secrets of URIs.

    Args:
        text: a message, or what a command prints.
        of_stores: leave other URIs as they are, which a text of a corpus may hold.

    >>> hidden("s3://key:secret@bucket/data: no"), hidden("s3://key:se/cret@bucket/data")
    ('s3://key:...@bucket/data: no', 's3://key:...@bucket/data')
    """
    if "://" not in text:
        return text
    text = _OF_STORES.sub(lambda found: f"{found[1]}://{found[2] or found[3] or ''}:...@", text)
    return text if of_stores else _OPTION.sub(r"\1...", _OF_ANY.sub(r"\1://\2:...@", text))
