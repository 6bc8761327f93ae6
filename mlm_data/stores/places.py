"""Where a path or a URI leads: which of Arrow's file systems, with which options.

    s3://bucket/data                                       options from the usual variables
    s3://bucket/data?endpoint_override=host:9000&scheme=http&region=eu-west-1
    s3://anonymous@bucket/data, gs://anonymous@bucket/data   without credentials
    s3://key:secret@bucket/data                            written and shown without the secret

Options behind a `?` win over variables: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION for S3;
CLOUD_STORAGE_EMULATOR_ENDPOINT, STORAGE_EMULATOR_HOST for Google's storage. A `?` is the beginning of options only
where option=value follows; else it belongs to the name, or is a wildcard.

Retries are the clients' own. S3: at most `ATTEMPTS` a request, with a random wait that doubles (the `standard` retry
mode of the AWS SDK). Google: for at most `RETRY_SECONDS`.
"""

import os
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs

from mlm_data.errors import StorageError
from mlm_data.hiding import hidden

ATTEMPTS = 6
RETRY_SECONDS = 20
OURS = ("s3", "gs", "gcs")  # schemes whose options are read here
KNOWN = (*OURS, "file", "hdfs", "viewfs", "abfs", "abfss")
_KEYS = "endpoint_override|scheme|region|retry_limit_seconds|project_id|allow_bucket_creation|tls_ca_file_path"
_QUERY = re.compile(rf"\?(?:(?:{_KEYS})=[^&]*)(?:&(?:{_KEYS})=[^&]*)*$")
_KEYS_OF_USER = re.compile(r"^(\w+://)[^/@:]*:[^/]*@")


@dataclass(frozen=True)
class Place:
    """A path or URI, taken apart."""

    scheme: str  # "" for a local path
    path: str  # as the file system takes it: bucket and key, or an absolute path; not quoted
    user: str = ""  # `anonymous` or `key:secret`
    query: str = ""  # options, without the `?`

    def __str__(self) -> str:
        if not self.scheme:
            return self.path
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{quote(self.path)}" + (f"?{self.query}" if self.query else "")

    def at(self, path: str) -> "Place":
        """Another path in the same store."""
        return replace(self, path=path)

    def join(self, name: str) -> "Place":
        """What is below it."""
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def options(self) -> dict[str, str]:
        """The options behind the `?`."""
        return dict(pair.split("=", 1) for pair in unquote(self.query).split("&")) if self.query else {}

    def open(self) -> pyarrow.fs.FileSystem:
        """The file system that it lies in; made once a process.

        Raises:
            StorageError: for a scheme that nobody knows, or options that can't be right.
        """
        if self.scheme in OURS and ":" in self.path.split("/")[0]:
            raise StorageError(f"{self}: no bucket is called so: write a / of a secret as %2F, and an @ as %40")
        try:
            if self.scheme in ("", "file"):  # the environment speaks of buckets only, and is slow to read
                return _open(os.getpid(), self.scheme, self.user, self.query, "", ())
            bucket = self.path.split("/")[0]
            return _open(os.getpid(), self.scheme, self.user, self.query, bucket, variables())
        except (pa.ArrowException, OSError, ValueError, ImportError, KeyError, TypeError) as error:
            raise StorageError(f"{hidden(str(self))}: {_why(self.scheme, error)}") from error


def parse(text: str, *, is_quoted: bool = True) -> Place:
    """Take a path or URI apart; `is_quoted`: whether `%20` in a URI means a space."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        path = os.path.abspath(text)
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise StorageError(f"{os.fsencode(path)!r}: its name is no UTF-8: rename the file or folder") from error
        return Place("", path)
    user, query = "", ""
    if scheme in OURS:
        if found := _QUERY.search(rest):
            rest, query = rest[: found.start()], found[0][1:]
        authority, slash, below = rest.partition("/")
        user, _, bucket = authority.rpartition("@")
        rest = f"{bucket}{slash}{below}"
    return Place(scheme, unquote(rest) if is_quoted else rest, user, query)


def absolute(location: str) -> str:
    """The same place for whoever works in another folder; a URI stays as it is.

    >>> absolute("s3://bucket/data")
    's3://bucket/data'
    """
    return location if "://" in location else os.path.abspath(location)


def beside(location: str, ending: str) -> str:
    """The place whose name has that ending more.

    >>> beside("/data/books/", "-sample"), beside("s3://b/books?region=eu", "-sample")
    ('/data/books-sample', 's3://b/books-sample?region=eu')
    """
    if "://" not in location:
        return location.rstrip("/") + ending
    place = parse(location)
    return str(place.at(place.path.rstrip("/") + ending))


def public(location: str) -> str:
    """A path or URI as files may say it that others read: without key and secret.

    >>> public("s3://key:secret@bucket/*.jsonl"), public("s3://anonymous@bucket/*.jsonl")
    ('s3://bucket/*.jsonl', 's3://anonymous@bucket/*.jsonl')
    """
    return hidden(without_keys(location))


def without_keys(location: str) -> str:
    """A path or URI without key and secret, as it is else; `with_keys` is its inverse."""
    return _KEYS_OF_USER.sub(r"\1", location)


def with_keys(location: str, like: str) -> str:
    """A place with the key and secret of another URI, if that one has them.

    >>> with_keys("s3://bucket/a.jsonl", "s3://key:secret@bucket/*.jsonl")
    's3://key:secret@bucket/a.jsonl'
    """
    found = _KEYS_OF_USER.match(like)
    return location if found is None else location.replace(found[1], found[0], 1)


def variables() -> tuple[tuple[str, str], ...]:
    """What the environment says of stores: part of what a file system is kept by."""
    prefixes = ("AWS_", "CLOUD_STORAGE_", "STORAGE_EMULATOR", "GOOGLE_", "AZURE_")
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(prefixes)))


@lru_cache(maxsize=64)
def _open(
    _process: int, scheme: str, user: str, query: str, bucket: str, _variables: tuple[tuple[str, str], ...]
) -> pyarrow.fs.FileSystem:
    place = Place(scheme, bucket, user, query)
    if not scheme or scheme == "file":
        return pyarrow.fs.LocalFileSystem()
    if scheme == "s3":
        return _open_s3(place)
    if scheme in OURS:
        return _open_google(place)
    if scheme in KNOWN:
        fs, _ = pyarrow.fs.FileSystem.from_uri(f"{scheme}://{quote(bucket)}")
        return fs
    raise KeyError(scheme)


def _open_s3(place: Place) -> pyarrow.fs.FileSystem:
    return pyarrow.fs.S3FileSystem(
        **settings_of_s3(place),
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        connect_timeout=5,
        request_timeout=30,
        allow_delayed_open=True,  # small files are one PUT
    )


def settings_of_s3(place: Place) -> dict[str, Any]:
    """Endpoint, region and credentials as a place and the environment say them, by the names of Arrow's client."""
    given = place.options()
    endpoint = given.get("endpoint_override") or _first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    options: dict[str, Any] = {}
    if endpoint:
        options |= _endpoint(endpoint, given.get("scheme"))
    elif "scheme" in given:
        options["scheme"] = given["scheme"]
    region = given.get("region") or _first("AWS_REGION", "AWS_DEFAULT_REGION")
    if not region and not endpoint:
        region = pyarrow.fs.resolve_s3_region(place.path.split("/")[0])
    options["region"] = region or "us-east-1"
    if "tls_ca_file_path" in given:
        options["tls_ca_file_path"] = given["tls_ca_file_path"]
    if place.user == "anonymous":
        options["anonymous"] = True
    elif place.user:
        key, _, secret = place.user.partition(":")
        options |= {"access_key": unquote(key), "secret_key": unquote(secret)}
    return options


def _open_google(place: Place) -> pyarrow.fs.FileSystem:
    return pyarrow.fs.GcsFileSystem(**settings_of_google(place))


def settings_of_google(place: Place) -> dict[str, Any]:
    """Endpoint, patience and whether there are credentials, by the names of Arrow's client."""
    given = place.options()
    emulator = _first("CLOUD_STORAGE_EMULATOR_ENDPOINT", "STORAGE_EMULATOR_HOST")
    endpoint = given.get("endpoint_override") or emulator
    seconds = float(given.get("retry_limit_seconds", RETRY_SECONDS))
    options: dict[str, Any] = {
        "retry_time_limit": timedelta(seconds=seconds),
        "anonymous": place.user == "anonymous" or bool(emulator),
    }
    if endpoint:
        options |= _endpoint(endpoint, given.get("scheme") or ("http" if emulator else None))
    return options


def _endpoint(text: str, scheme: str | None) -> dict[str, str]:
    found, separator, host = text.rstrip("/").rpartition("://")
    return {"endpoint_override": host, "scheme": scheme or (found if separator else "https")}


def _first(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _why(scheme: str, error: Exception) -> str:
    if scheme not in KNOWN:
        return f"not a path or a URI that can be opened: {scheme}:// is not known, known are {', '.join(KNOWN)}"
    said = " ".join(str(error).split())
    if scheme == "s3" and "region" in said.lower():
        return f"not a path or a URI that can be opened: set the bucket's region, as AWS_REGION or `storage:` ({said})"
    if scheme in ("hdfs", "viewfs"):
        said = f"set JAVA_HOME, HADOOP_HOME and CLASSPATH to a Hadoop client ({said[:120]})"
    return f"not a path or a URI that can be opened: {said}"
