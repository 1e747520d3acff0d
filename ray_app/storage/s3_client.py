"""One request to S3 by boto3's standard configuration (AWS_ENDPOINT_URL, profiles, IAM), retried until it is answered.

In: `s3://bucket/key` and a call on boto3's client. Out: its response. A busy server, a timeout or a broken connection
is retried with back-off. What a retry cannot fix (no such bucket, access denied, no network) is reported within
seconds as one line; error lines never contain credentials.

boto3's own retries are off: they cover neither a response body nor an error text that breaks off.
AWS_MAX_ATTEMPTS (10) as in boto3; NUNCHI_S3_TIMEOUT (20): seconds without a byte before a request is retried.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ray_app.errors import UserError, check, first_line
from ray_app.storage.local import ChangedError, MissingError

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

T = TypeVar("T")
ATTEMPTS = "10"
FIRST_WAIT = 0.1  # seconds, doubled per attempt and randomized
LONGEST_WAIT = 20.0  # seconds between two attempts, the cap of boto3's standard mode
TIMEOUT = "20"
CONNECT = 3  # seconds
NO_CONNECTION = 5  # seconds until a server that was never reached is given up: a wrong endpoint, no network
NO_ANSWER = 45  # seconds until a server that accepts connections but never answered is given up
BUSY = (429, 500, 502, 503, 504)
PASSING = ("SlowDown", "InternalError", "RequestTimeout", "ConditionalRequestConflict", "OperationAborted")
DENIED = "access denied; check the bucket's policy and whose credentials these are (aws sts get-caller-identity)"
REMEDIES = {
    "NoSuchBucket": "no such bucket",
    "AccessDenied": DENIED,
    "Forbidden": DENIED,
    "403": DENIED,
    "InvalidAccessKeyId": "S3 does not know the access key; check AWS_PROFILE or AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not match the access key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; sign in again",
    "NoCredentialsError": "no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}


class UnavailableError(UserError):
    """S3 or a hub is unreachable, or S3 denies access; this says nothing about the file. `code`: S3's error code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Connection:
    """A client, how often it tries a request, and whether its server ever answered."""

    client: "BaseClient"
    attempts: int
    answered: bool = False


def split(uri: str) -> dict[str, str]:
    """`s3://bucket/key` as arguments of boto3. The key is taken literally, spaces and Korean letters included."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    check(
        "@" not in bucket, f"s3://…@{bucket.rpartition('@')[2]}/{key}: credentials go into the environment, not a URI"
    )
    return {"Bucket": bucket, "Key": key}


def request(uri: str, call: Callable[["BaseClient"], T]) -> T:
    """`call(client)`, retried where that may help. Raises MissingError, ChangedError (412), or UnavailableError."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError  # boto3 does not catch it where the text of an error breaks off

    started = time.monotonic()
    try:
        server = _connection(_settings(), os.getpid())
    except (BotoCoreError, ValueError) as error:  # no such profile, an endpoint that is no URL
        raise UnavailableError(f"{uri}: {first_line(error)}", type(error).__name__) from None
    for attempt in count(1):
        try:
            answer = call(server.client)
            server.answered = True
            return answer
        except (BotoCoreError, ClientError, ResponseParserError, HTTPError) as error:
            server.answered |= isinstance(error, ClientError)
            wait = random.random() * min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
            hopeless = not server.answered and time.monotonic() + wait > started + _patience(error)
            if attempt >= server.attempts or hopeless or not _is_transient(error):
                raise _one_line(uri, error) from None
        time.sleep(wait)
    raise AssertionError


def access() -> dict[str, str]:
    """Endpoint, region and keys as boto3 finds them, "" where it has none, for libraries that ask for them."""
    import boto3

    session = boto3.session.Session()
    found = session.get_credentials()
    keys = found.get_frozen_credentials() if found else None
    return {
        "endpoint": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "",
        "region": session.region_name or "",
        "access-key-id": (keys and keys.access_key) or "",
        "secret-access-key": (keys and keys.secret_key) or "",
        "session-token": (keys and keys.token) or "",
    }


def _settings() -> tuple[tuple[str, str], ...]:
    """The environment variables that a client depends on, sorted."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(("AWS_", "NUNCHI_S3_"))))


@lru_cache(maxsize=4)
def _connection(settings: tuple[tuple[str, str], ...], process: int) -> _Connection:
    """One client per set of settings and per process, because a client does not survive a fork."""
    import boto3
    from botocore.config import Config

    seconds = float(dict(settings).get("NUNCHI_S3_TIMEOUT", TIMEOUT))
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=min(CONNECT, seconds),
        read_timeout=seconds,
        max_pool_connections=32,
        tcp_keepalive=True,
    )
    attempts = int(dict(settings).get("AWS_MAX_ATTEMPTS", ATTEMPTS))
    return _Connection(boto3.session.Session().client("s3", config=config), attempts)


def _patience(error: Exception) -> float:
    """Seconds to keep trying a server that has not answered yet."""
    from botocore.exceptions import ConnectionError as NoConnection

    return NO_CONNECTION if isinstance(error, NoConnection) else NO_ANSWER


def _is_transient(error: Exception) -> bool:
    """Whether a retry may succeed."""
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError

    if isinstance(error, boto.ClientError):
        return _status(error) in BUSY or _code(error) in PASSING
    lost = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, boto.FlexibleChecksumError, HTTPError)
    return isinstance(error, lost)


def _status(error: "ClientError") -> int:
    """The HTTP status of an answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: Exception) -> str:
    """S3's error code, or the exception's name where S3 did not answer."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return type(error).__name__


def _one_line(uri: str, error: Exception) -> UserError:
    """The error as one line with its remedy; what boto3 says is never quoted, since it may hold credentials."""
    from botocore.exceptions import ClientError, ParamValidationError

    code = _code(error)
    if code in ("NoSuchKey", "NotFound", "404"):
        return MissingError(f"{uri}: no such file")
    if code in ("PreconditionFailed", "412"):
        return ChangedError(f"{uri}: changed since it was listed")
    if code in REMEDIES:
        return UnavailableError(f"{uri}: {REMEDIES[code]}", code)
    if isinstance(error, ClientError):
        return UnavailableError(f"{uri}: S3 answered {code} ({_status(error)})", code)
    if isinstance(error, ParamValidationError):
        return UnavailableError(f"{uri}: not a valid S3 name", code)
    server = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    host = f" at {server.hostname}:{server.port or server.scheme}" if server.hostname else ""
    return UnavailableError(f"{uri}: no answer from S3{host} ({code}); check the network and AWS_ENDPOINT_URL", code)
