"""What errors and hidden texts show of a URI."""

import pickle

import pytest

from mlm_data.errors import StorageError
from mlm_data.hiding import hidden
from mlm_data.stores.places import parse

SECRETS = {
    "s3://key:secret@bucket/data: no": "s3://key:...@bucket/data: no",
    "s3://key:sec/ret@bucket/data: no": "s3://key:...@bucket/data: no",
    "s3://key:/secret@bucket/data": "s3://key:...@bucket/data",
    "s3://key:sec/re/t+@bucket": "s3://key:...@bucket",
    "s3://key:se@cret@bucket/data@v1": "s3://key:...@bucket/data@v1",
    "s3://key%3Asec/ret%40bucket/data": "s3://key:...@bucket/data",
    "s3://key:sec%2Fret@bucket/data@v1": "s3://key:...@bucket/data@v1",
    "abfs://:secret@account.example/data": "abfs://:...@account.example/data",
    "http://user:secret@host:80/x": "http://user:...@host:80/x",
    "abfs://container/x?client_secret=secret&b=1": "abfs://container/x?client_secret=...&b=1",
    "'s3://a:secret@b/x' and 's3://c:secret@d/y'": "'s3://a:...@b/x' and 's3://c:...@d/y'",
}
HARMLESS = [
    "s3://bucket/data@v1: no",
    "s3://anonymous@bucket/a:b@c",
    "abfs://container@account.example/a",
    "s3://bucket: no such bucket, mail a@b",
    "hdfs://node:8020/user/a@b",
    "s3://bucket/a?endpoint_override=host:9000&scheme=http&region=eu-west-1 and x@y",
    "http://host:9000/a@b",
    "12:30 a@b /c",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_hidden(text):
    assert hidden(text) == SECRETS[text]
    assert str(StorageError(text)) == str(pickle.loads(pickle.dumps(StorageError(text)))) == SECRETS[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_all_else_stays(text):
    assert hidden(text) == hidden(text, of_stores=True) == text


def test_texts_of_a_corpus_stay():
    text = "see http://user:password@host/x?token=1"
    assert hidden(text, of_stores=True) == text


def test_a_slash_in_a_secret_is_told():
    with pytest.raises(StorageError, match="write a / of a secret as %2F") as caught:
        parse("s3://key:sec/ret@bucket/data").open()
    assert "ret" not in str(caught.value).replace("secret", "")


@pytest.mark.parametrize("part", ["s3://k:v/", "s3://k%3A", "?secret", "x", "secret", "a.", ":v"])
def test_a_hostile_text_takes_a_time_that_grows_as_it_does(part):
    """Else these would take hours."""
    text = f"s3://k{part * 100_000}://?{part * 100_000}"
    assert hidden(text, of_stores=True).startswith("s3://")
    assert hidden(text).startswith("s3://")
