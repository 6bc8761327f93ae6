"""A file in a bucket that is replaced only if nobody has replaced it meanwhile.

S3 does that in one request: a PUT with `If-Match: <ETag>`, or with `If-None-Match: *` where nothing may be there yet
("Conditional requests" in the user guide of Amazon S3). Arrow's client (25.0) has no such PUT, boto3 has; it comes with
`premask[aws]`. Without it, and in other stores, the last writer wins.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlm_data.errors import StorageError
from mlm_data.stores.folder import Folder, explain
from mlm_data.stores.places import ATTEMPTS, Place, parse, settings_of_s3

LOST = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


@dataclass(frozen=True)
class Seen:
    """A file as it was when it was looked at."""

    data: bytes | None  # None: there was none
    tag: str  # its ETag; "" where there was none


class Conditional:
    """One file of a folder on S3, through boto3."""

    def __init__(self, folder: Folder, name: str) -> None:
        place = parse(folder.location)
        self._where = f"{folder.location}/{name}"
        self._folder, self._name = folder, name
        self._bucket, _, key = folder.path(name).partition("/")
        self._key = key
        self._client = _client(place)

    @staticmethod
    def is_possible(folder: Folder) -> bool:
        """Whether this store, and what is installed here, can do that."""
        return folder.location.startswith("s3://") and importlib.util.find_spec("boto3") is not None

    def look(self) -> Seen:
        """What is there now.

        Raises:
            StorageError: it can't be read.
        """
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key)
            return Seen(answer["Body"].read(), answer["ETag"])
        except Exception as error:
            if _code(error) in ("NoSuchKey", "404"):
                return Seen(None, "")
            raise self._told(error, "read") from error

    def replace(self, seen: Seen, data: bytes) -> bool:
        """Write it if it is still as it was seen; False, and nothing is changed, if it is not.

        A PUT that was tried again, because its answer was lost, finds its own bytes: that is a success.

        Raises:
            StorageError: it can't be written.
        """
        condition = {"IfMatch": seen.tag} if seen.tag else {"IfNoneMatch": "*"}
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=data, **condition)
        except Exception as error:
            if _code(error) in LOST or (seen.tag and _code(error) == "NoSuchKey"):
                return self.look().data == data
            if _code(error) != "NotImplemented":
                raise self._told(error, "write") from error
            self._folder.write(self._name, data)  # a store that does not know such requests: the last writer wins
        return True

    def _told(self, error: Exception, verb: str) -> Exception:
        core = importlib.import_module("botocore.exceptions")
        if isinstance(error, core.ClientError | core.BotoCoreError | OSError | pa.ArrowException):
            return explain(OSError(str(error)), self._where, verb)
        return error


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _client(place: Place) -> Any:
    boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
    given = settings_of_s3(place)
    options: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        "connect_timeout": 5,
        "read_timeout": 30,
    }
    if given.get("anonymous"):
        options["signature_version"] = importlib.import_module("botocore").UNSIGNED
    if "endpoint_override" in given:
        options["s3"] = {"addressing_style": "path"}  # as Arrow asks other endpoints
    scheme = given.get("scheme", "https")
    try:
        return boto3.client(
            "s3",
            region_name=given["region"],
            endpoint_url=f"{scheme}://{given['endpoint_override']}" if "endpoint_override" in given else None,
            aws_access_key_id=given.get("access_key"),
            aws_secret_access_key=given.get("secret_key"),
            verify=given.get("tls_ca_file_path"),
            config=config.Config(**options),
        )
    except ValueError as error:
        raise StorageError(f"s3://{place.path}: {error}") from error
