"""What Arrow's client of S3 (25.0) can't do, by boto3, which comes with `premask[aws]`.

A PUT with a condition: see `conditional`. And a large file in few requests: Arrow sends all of 10 MiB and more in parts
of 10 MiB, which no option changes, with a request before the first and one after the last.
"""

import importlib
import importlib.util
import os
from functools import lru_cache
from threading import Lock
from typing import Any

import pyarrow as pa

from mlm_data.errors import StorageError
from mlm_data.stores import places
from mlm_data.stores.places import Place, settings_of_s3, variables

ARROWS_PART_BYTES = 10 << 20
PART_BYTES = 64 << 20  # a file of at most this size is one request; S3 takes 5 GiB in one, and 10,000 parts
_making = Lock()  # boto3 makes one client at a time; those that are made may be shared


def is_installed() -> bool:
    """Whether boto3 is there."""
    return importlib.util.find_spec("boto3") is not None


def upload(place: Place, path: str, file: Any, num_bytes: int) -> None:
    """Write an object: one request up to `PART_BYTES`, above one for each part and two more. It is there whole, or not.

    Args:
        place: any of its bucket.
        path: bucket and key.
        file: seekable; what is behind its place is sent.
        num_bytes: of that.

    Raises:
        OSError: it can't be written.
    """
    bucket, _, key = path.partition("/")
    try:
        if num_bytes <= PART_BYTES:
            client(place).put_object(Bucket=bucket, Key=key, Body=file)
            return
        chunk = max(PART_BYTES, -(-num_bytes // 10_000))
        parts = importlib.import_module("boto3.s3.transfer").TransferConfig(
            multipart_chunksize=chunk, use_threads=False
        )
        client(place).upload_fileobj(file, bucket, key, Config=parts)
    except Exception as error:
        raise told(error) from error


def client(place: Place) -> Any:
    """A client of boto3 with the settings that Arrow's has; one for all threads of a process.

    Raises:
        StorageError: if the settings can't be right.
    """
    with _making:
        return _client(os.getpid(), place.at(place.path.partition("/")[0]), variables())


def told(error: Exception) -> Exception:
    """An error of boto3 as one of the operating system; others as they are."""
    core = importlib.import_module("botocore.exceptions")
    failed = importlib.import_module("boto3.exceptions").S3UploadFailedError
    kinds = core.ClientError | core.BotoCoreError | failed | pa.ArrowException
    return OSError(str(error)) if isinstance(error, kinds) else error


def code(error: Exception) -> str:
    """What the service calls an error; "" for one that it hasn't told."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


@lru_cache(maxsize=16)
def _client(_process: int, place: Place, _variables: tuple[tuple[str, str], ...]) -> Any:
    boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
    given = settings_of_s3(place)
    options: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": places.ATTEMPTS},
        "connect_timeout": 5,
        "read_timeout": 30,
    }
    if given.get("anonymous"):
        options["signature_version"] = importlib.import_module("botocore").UNSIGNED
    if "endpoint_override" in given:
        options["s3"] = {"addressing_style": "path"}  # as Arrow asks other endpoints
    scheme = given.get("scheme", "https")
    try:
        return boto3.session.Session().client(
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
