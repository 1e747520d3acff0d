"""storage through a line that breaks: nothing is lost, doubled or taken for another's; what cannot mend ends soon."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from ray_app import storage
from ray_app.errors import UserError
from tests.support.faulty_s3 import KINDS, FaultyS3

SECRETS = ("AKIAVERYSECRET", "not-to-be-seen", "session-not-to-be-seen")


@pytest.fixture(scope="module")
def line(s3_server: str) -> Iterator[FaultyS3]:
    with FaultyS3(s3_server, seed=3, stall=1) as proxy:
        yield proxy


@pytest.fixture
def faulty(s3: str, line: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    """A line that works until `share` or `ahead` say otherwise, and a patience of half a second. Each test draws the
    same faults, whatever ran before it."""
    monkeypatch.setenv("NUNCHI_S3_TIMEOUT", "0.5")
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.endpoint)
    line.begin(seed=3)
    line.share, line.kinds = 0, KINDS
    return line


@pytest.fixture
def patient(faulty: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    """The same with the product's own patience, for faults that take no time: on a busy machine 16 MB take longer than
    half a second."""
    monkeypatch.delenv("NUNCHI_S3_TIMEOUT")
    return faulty


def content(number: int) -> bytes:
    """Of every size: empty, less than what is read at the end, more."""
    return np.random.default_rng(number).bytes((number % 3) * 50_000)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_reads_writes_and_creates_complete_and_are_right(faulty: FaultyS3, s3: str, share: float) -> None:
    faulty.share = share
    numbers = range(36)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda i: storage.create(f"{s3}/new/{i:03}", content(i)), numbers))
        assert not any(pool.map(lambda i: storage.create(f"{s3}/new/{i:03}", content(i)), numbers[:12]))
        list(pool.map(lambda i: storage.write_bytes(f"{s3}/old/{i:03}", content(i)), numbers))
        names = [f"{s3}/{folder}/{i:03}" for folder in ("new", "old") for i in numbers]
        assert list(pool.map(storage.read_bytes, names)) == [content(i) for i in numbers] * 2
    assert [file.size for file in storage.list_files(f"{s3}/new")] == [len(content(i)) for i in numbers]
    assert sum(faulty.faults.values()) > share * 100


@pytest.mark.parametrize("kind", KINDS)
def test_create_whose_answer_is_lost_knows_its_own(faulty: FaultyS3, s3: str, kind: str) -> None:
    faulty.ahead.append(kind)
    assert storage.create(f"{s3}/marker", b"same")
    assert not faulty.ahead
    faulty.ahead.append(kind)
    assert not storage.create(f"{s3}/marker", b"same")


@pytest.mark.parametrize("kind", ["reset", "lost", "late"])
def test_of_many_who_create_one_learns_that_it_did(faulty: FaultyS3, s3: str, kind: str) -> None:
    faulty.ahead.extend([kind] * 4)
    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(lambda _: storage.create(f"{s3}/marker", b"same"), range(6))) == 1


def test_a_large_object_is_written_in_parts_and_whole(patient: FaultyS3, s3: str) -> None:
    """Even where the answer to its end is lost, and the repeat finds the upload gone."""
    data = np.random.default_rng(0).bytes(65 << 20)
    patient.ahead.extend(["busy", "", "reset", *[""] * 5, "lost"])  # the start, five parts, the end
    storage.write_bytes(f"{s3}/large", data)
    assert not patient.ahead
    assert storage.read_bytes(f"{s3}/large") == data


def test_a_large_write_that_fails_publishes_nothing(patient: FaultyS3, s3: str) -> None:
    storage.write_bytes(f"{s3}/large", b"before")
    patient.ahead.extend(["", "", "denied"])
    with pytest.raises(storage.UnavailableError, match="access denied"):
        storage.write_bytes(f"{s3}/large", bytes(65 << 20))
    assert storage.read_bytes(f"{s3}/large") == b"before"
    assert not boto3.client("s3").list_multipart_uploads(Bucket="shop").get("Uploads")


def parquet(uri: str) -> pa.Table:
    """Four row groups of 1.2 MB, random so that nothing is compressed away."""
    values = np.random.default_rng(0).random((3, 200_000))
    table = pa.table({f"c{i}": row for i, row in enumerate(values)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=50_000, compression="none", use_dictionary=False)
    storage.write_bytes(uri, sink.getvalue().to_pybytes())
    return table


def test_parquet_is_read_in_few_requests(faulty: FaultyS3, s3: str) -> None:
    parquet(f"{s3}/a.parquet")
    faulty.requests.clear()
    with storage.open_input(f"{s3}/a.parquet") as source:
        footer = pq.ParquetFile(source).metadata
    assert footer.num_row_groups == 4
    assert faulty.requests == {"GET": 1}
    with storage.open_input(f"{s3}/a.parquet") as source:
        pq.ParquetFile(source, pre_buffer=True).read_row_group(1)
    assert faulty.requests == {"GET": 3}


def test_parquet_is_read_through_faults(faulty: FaultyS3, s3: str) -> None:
    table = parquet(f"{s3}/a.parquet")
    faulty.share = 0.3
    with storage.open_input(f"{s3}/a.parquet") as source:
        file = pq.ParquetFile(source, pre_buffer=True)
        read = [file.read_row_group(group) for group in range(4)]
    assert pa.concat_tables(read).equals(table)
    assert storage.read_parquet(s3).equals(table)
    assert faulty.faults


def test_a_broken_answer_is_continued_where_it_broke(faulty: FaultyS3, s3: str) -> None:
    storage.write_bytes(f"{s3}/a", content(2) * 40)
    faulty.ahead.extend(["", *["cut"] * 6])
    assert storage.read_bytes(f"{s3}/a") == content(2) * 40


def test_a_file_that_changes_while_it_is_read_is_reported(faulty: FaultyS3, s3: str) -> None:
    storage.write_bytes(f"{s3}/a", content(2))
    with storage.open_input(f"{s3}/a") as source:
        storage.write_bytes(f"{s3}/a", content(5))
        with pytest.raises(storage.ChangedError, match="s3://shop/a: changed since it was listed"):
            source.read()


def test_what_never_mends_is_given_up_and_says_nothing_of_the_file(
    faulty: FaultyS3, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    faulty.share, faulty.kinds = 1, ("reset",)
    with pytest.raises(storage.UnavailableError, match=r"s3://shop/a: no answer from S3 at 127\.0\.0\.1"):
        storage.read_bytes(f"{s3}/a")
    assert faulty.requests == {"GET": 3}


@pytest.fixture
def secret(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), SECRETS, strict=True):
        monkeypatch.setenv(f"AWS_{name}", value)
    return s3


ACTS: list[Callable[[str], object]] = [
    storage.read_bytes,
    storage.list_files,
    storage.exists,
    storage.is_empty,
    lambda uri: storage.create(uri, b""),
    lambda uri: storage.write_bytes(uri, b""),
]


def refused(act: Callable[[str], object], uri: str) -> str:
    """One line, soon, without a secret."""
    started = time.monotonic()
    with pytest.raises(storage.UnavailableError) as caught:
        act(uri)
    message = str(caught.value)
    assert time.monotonic() - started < 12
    assert message.startswith(f"{uri}: ")
    assert "\n" not in message
    assert not any(word in repr(caught.value) for word in SECRETS)
    return message


def test_a_missing_bucket_is_reported_at_once(secret: str) -> None:
    for act in ACTS:
        assert "no such bucket" in refused(act, "s3://nobucket/x")


def test_denied_access_is_reported_at_once(faulty: FaultyS3, secret: str) -> None:
    faulty.share, faulty.kinds = 1, ("denied",)
    for act in ACTS:
        assert "access denied; check" in refused(act, f"{secret}/x")
    assert sum(faulty.requests.values()) == len(ACTS)


def test_a_missing_server_is_reported_within_seconds(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:not-to-be-seen@127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in refused(storage.read_bytes, f"{secret}/x")


@pytest.mark.parametrize("endpoint", ["nonsense", "http://nowhere.invalid"])
def test_an_invalid_endpoint_is_reported_within_seconds(
    secret: str, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert refused(storage.read_bytes, f"{secret}/x")


def test_missing_credentials_are_reported_within_seconds(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    assert "no credentials; set AWS_PROFILE" in refused(storage.read_bytes, f"{s3}/x")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in refused(storage.read_bytes, f"{s3}/x")


def test_credentials_in_a_uri_are_refused_and_not_repeated(s3: str) -> None:
    with pytest.raises(UserError, match=r"^s3://…@shop/x: credentials go into the environment, not a URI") as caught:
        storage.read_bytes("s3://AKIAVERYSECRET:not-to-be-seen@shop/x")
    assert not any(word in str(caught.value) for word in SECRETS)


def test_an_object_that_begins_like_a_folder_is_not_the_folder(s3: str) -> None:
    storage.write_bytes(f"{s3}/reviews-old/a", b"1")
    assert not storage.exists(f"{s3}/reviews")
    assert storage.is_empty(f"{s3}/reviews")
    storage.write_bytes(f"{s3}/reviews/", b"")  # the mark of a folder that the console makes
    assert storage.exists(f"{s3}/reviews")
    assert storage.is_empty(f"{s3}/reviews")
    assert storage.list_files(f"{s3}/reviews") == []


def test_thousands_of_objects_are_listed_in_pages(faulty: FaultyS3, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUNCHI_S3_TIMEOUT", "20")
    names = [f"in/{i % 7}/{i:05}.parquet" for i in range(2_050)]
    for name in names:  # into the server's memory: a PUT each would take long
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object("shop", name, b"")
    assert [file.uri for file in storage.list_files(f"{s3}/in")] == [f"{s3}/{name}" for name in sorted(names)]
    assert faulty.requests == {"GET": 3}
    assert len(storage.list_files(f"{s3}/in/3/0000*")) == 1
    storage.remove(f"{s3}/in")
    assert storage.is_empty(f"{s3}/in")
