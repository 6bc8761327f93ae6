"""A file in a bucket that is replaced only if nobody has replaced it meanwhile.

S3 does that in one request: a PUT with `If-Match: <ETag>`, or with `If-None-Match: *` where nothing may be there yet
("Conditional requests" in the user guide of Amazon S3). Arrow's client (25.0) has no such PUT, boto3 has: see `amazon`.
Google's storage has a number for each write, see `google`; credentials for it come with `premask[gcp]`.
Without them, and in other stores, the last writer wins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlm_data.stores import amazon, google
from mlm_data.stores.folder import Folder, explain
from mlm_data.stores.patience import patiently
from mlm_data.stores.places import parse

_GOOGLE = ("gs://", "gcs://")
LOST = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


@dataclass(frozen=True)
class Seen:
    """A file as it was when it was looked at."""

    data: bytes | None  # None: there was none
    tag: str  # its ETag or generation; "" where there was none


class Conditional:
    """One file of a folder in a bucket."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._where = f"{folder.location}/{name}"
        self._store = (_OnS3 if folder.location.startswith("s3://") else _OnGoogle)(folder, name)

    @staticmethod
    def is_possible(folder: Folder) -> bool:
        """Whether this store, and what is installed here, can do that."""
        if folder.location.startswith(_GOOGLE):
            return google.is_reachable(parse(folder.location))
        return folder.location.startswith("s3://") and amazon.is_installed()

    def look(self) -> Seen:
        """What is there now.

        Raises:
            StorageError: it can't be read.
        """
        try:
            return self._store.look()
        except OSError as error:
            raise explain(error, self._where, "read") from error

    def replace(self, seen: Seen, data: bytes) -> bool:
        """Write it if it is still as it was seen; False, and nothing is changed, if it is not.

        A request that was tried again, because its answer was lost, finds its own bytes: that is a success.

        Raises:
            StorageError: it can't be written.
        """
        try:
            return self._store.replace(seen, data) or self._store.look().data == data
        except OSError as error:
            raise explain(error, self._where, "write") from error


class _OnGoogle:
    def __init__(self, folder: Folder, name: str) -> None:
        self._place, self._path = parse(folder.location), folder.path(name)

    def look(self) -> Seen:
        data, generation = self._object().read()
        return Seen(data, "" if data is None else generation)

    def replace(self, seen: Seen, data: bytes) -> bool:
        return self._object().replace(data, seen.tag or google.ABSENT)

    def _object(self) -> google.Object:
        return google.Object(self._place, self._path)


class _OnS3:
    """Through boto3, whose errors are told as those of the operating system."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        self._bucket, _, self._key = folder.path(name).partition("/")
        self._client = amazon.client(parse(folder.location))

    def look(self) -> Seen:
        try:
            answer = self._ask(self._client.get_object)
            return Seen(answer["Body"].read(), answer["ETag"])
        except Exception as error:
            if amazon.code(error) in ("NoSuchKey", "404"):
                return Seen(None, "")
            raise amazon.told(error) from error

    def replace(self, seen: Seen, data: bytes) -> bool:
        condition = {"IfMatch": seen.tag} if seen.tag else {"IfNoneMatch": "*"}
        try:
            self._ask(self._client.put_object, Body=data, **condition)
        except Exception as error:
            if amazon.code(error) in LOST or (seen.tag and amazon.code(error) == "NoSuchKey"):
                return False
            if amazon.code(error) != "NotImplemented":
                raise amazon.told(error) from error
            self._folder.write(self._name, data)  # a store that does not know such requests: the last writer wins
        return True

    def _ask(self, request: Callable[..., Any], **options: Any) -> Any:
        return patiently(lambda: request(Bucket=self._bucket, Key=self._key, **options))
