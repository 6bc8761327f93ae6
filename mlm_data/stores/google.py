"""One object of Google's storage, by its JSON API: what it is, and replacing it only if it is still that.

Each write of an object has a number, its generation; 0 stands for "there is none". An upload with
`ifGenerationMatch=G` is refused with 412 unless G is the current one ("Request preconditions" in the documentation of
Cloud Storage). Arrow's client (25.0) has no such upload. Two kinds of requests are all that is needed, so they are made
here; google-auth, which comes with `premask[gcp]`, finds the credentials. Where there are to be none
(`gs://anonymous@`, an emulator), nothing has to be installed.
"""

import http.client
import importlib
import importlib.util
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode

from mlm_data.stores.patience import patiently
from mlm_data.stores.places import Place, settings_of_google

ENDPOINT = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
REQUEST_SECONDS = 30
ABSENT = "0"  # the generation of what is not there
_PASSING = (408, 429, 500, 502, 503, 504)  # "Retry strategy" in the documentation of Cloud Storage


class RefusedError(OSError):
    """What the service answers instead of 200."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP status {status}: {said}")
        self.status = status


class _LostError(OSError):
    """No answer, or half of one."""


def is_reachable(place: Place) -> bool:
    """Whether requests can be made from here: google-auth is installed, or no credentials are needed."""
    if settings_of_google(place)["anonymous"]:
        return True
    try:
        return importlib.util.find_spec("google.auth") is not None and importlib.util.find_spec("requests") is not None
    except ModuleNotFoundError:  # not even `google`
        return False


class Object:
    """An object of a bucket, whether it is there or not."""

    def __init__(self, place: Place, path: str) -> None:
        settings = settings_of_google(place)
        host = settings.get("endpoint_override")
        self._endpoint = f"{settings['scheme']}://{host}" if host else ENDPOINT
        self._bucket, _, self._name = path.partition("/")
        self._credentials = None if settings["anonymous"] else _credentials()

    def read(self) -> tuple[bytes | None, str]:
        """Its bytes and their generation; (None, ABSENT) if it is not there.

        Raises:
            OSError: the service refuses, or does not answer.
        """
        where = f"/storage/v1/b/{quote(self._bucket, safe='')}/o/{quote(self._name, safe='')}"
        while True:
            try:
                generation = str(json.loads(self._ask("GET", f"{where}?fields=generation"))["generation"])
            except RefusedError as error:
                if error.status != http.client.NOT_FOUND:
                    raise
                return None, ABSENT
            try:
                return self._ask("GET", f"{where}?alt=media&generation={generation}"), generation
            except RefusedError as error:
                if error.status != http.client.NOT_FOUND:
                    raise  # else it was replaced between the two requests

    def replace(self, data: bytes, generation: str) -> bool:
        """Write it if it still has this generation; False, and nothing is changed, if it has not.

        Raises:
            OSError: the service refuses for another reason, or does not answer.
        """
        query = urlencode({"uploadType": "media", "name": self._name, "ifGenerationMatch": generation})
        try:
            self._ask("POST", f"/upload/storage/v1/b/{quote(self._bucket, safe='')}/o?{query}", data)
        except RefusedError as error:
            if error.status != http.client.PRECONDITION_FAILED:
                raise
            return False
        return True

    def _ask(self, method: str, target: str, data: bytes | None = None) -> bytes:
        return patiently(lambda: self._ask_once(method, target, data), passes=_passes)

    def _ask_once(self, method: str, target: str, data: bytes | None) -> bytes:
        headers = {"Content-Type": "application/octet-stream"} if data is not None else {}
        if self._credentials is not None:
            headers["Authorization"] = f"Bearer {_token(self._credentials)}"
        request = urllib.request.Request(self._endpoint + target, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise RefusedError(error.code, error.read(2000).decode(errors="replace") or error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise _LostError(f"Couldn't connect: {error}") from error


def _passes(error: Exception) -> bool:
    return isinstance(error, _LostError) or (isinstance(error, RefusedError) and error.status in _PASSING)


def _credentials() -> Any:
    """Those that Arrow's client finds, too ("Application Default Credentials").

    Raises:
        OSError: there are none.
    """
    auth = importlib.import_module("google.auth")
    try:
        found, _ = auth.default(scopes=[SCOPE])
    except auth.exceptions.GoogleAuthError as error:
        raise OSError(f"UNAUTHENTICATED: {error}") from error
    return found


def _token(credentials: Any) -> str:
    auth, requests = importlib.import_module("google.auth"), importlib.import_module("google.auth.transport.requests")
    if not credentials.valid:
        try:
            credentials.refresh(requests.Request())
        except auth.exceptions.TransportError as error:
            raise _LostError(f"Couldn't connect: {error}") from error
        except auth.exceptions.GoogleAuthError as error:
            raise OSError(f"UNAUTHENTICATED: {error}") from error
    return str(credentials.token)
