"""What is said of MongoDB's errors, and what is never said."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from forebay.store.trouble import Trouble, is_away

URL = "mongodb://user:hunter2@db-0:27017,db-1:27017/?replicaSet=x"
WRITTEN = "the canary that was written"


def said(reason: Exception, url: str = URL) -> str:
    return Trouble(url, "forebay").say(reason, client=None)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        (URL, "db-0:27017,db-1:27017"),
        ("mongodb://db", "db"),
        ("mongodb+srv://user:hunter2@cluster.example.com/x?tls=true", "cluster.example.com"),
        ("mongodb://user:hun#ter2@db/", "db"),
        ("mongodb://user:12?hunter2=x@db/", "hosts that cannot be read"),
    ],
)
def test_the_hosts_are_named_and_the_password_is_not(url: str, hosts: str) -> None:
    line = said(NetworkTimeout("db-0:27017: timed out"), url)
    assert line == f"MongoDB at {hosts}: no answer in time (NetworkTimeout)"


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (AutoReconnect("db-0:27017: [Errno 111] refused"), "nobody listens there (AutoReconnect)"),
        (
            AutoReconnect("db-0: [Errno -2] Name or service"),
            "the name is not known (AutoReconnect)",
        ),
        (AutoReconnect("db-0: [Errno 113] No route"), "there is no route to it (AutoReconnect)"),
        (AutoReconnect("connection closed"), "the connection broke (AutoReconnect)"),
        (NotPrimaryError(WRITTEN), "it is not the primary (NotPrimaryError)"),
        (TimeoutError(), "no answer in time (TimeoutError)"),
        (PyMongoError(WRITTEN), "PyMongoError"),
        (WriteConcernError(WRITTEN, 64), "WriteConcernError"),
        (
            OperationFailure(WRITTEN, 1, {"errmsg": WRITTEN, "codeName": "InternalError"}),
            "OperationFailure, InternalError",
        ),
        (
            BulkWriteError({"writeErrors": [{"errmsg": WRITTEN}], "writeConcernErrors": [{}]}),
            "BulkWriteError, write concern",
        ),
    ],
)
def test_an_error_is_told_by_its_kind_and_never_by_the_servers_text(
    reason: Exception, why: str
) -> None:
    assert said(reason) == f"MongoDB at db-0:27017,db-1:27017: {why}"


def test_a_user_that_is_not_let_in_is_named_as_it_was_meant() -> None:
    refused = OperationFailure("no", 18, {"codeName": "AuthenticationFailed"})
    line = said(refused, "mongodb://a%40b:hunter2@db/")
    assert "does not let the user 'a@b' in" in line
    assert "FOREBAY_MONGODB_URL" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("reason", "away"),
    [
        (ServerSelectionTimeoutError("nobody"), True),
        (AutoReconnect("connection closed"), True),
        (NotPrimaryError("not primary"), True),
        (OperationFailure("no", 18), True),
        (OperationFailure("no", 13), False),
        (NetworkTimeout("timed out"), False),
        (TimeoutError(), False),
        (WriteConcernError("no majority", 64), False),
    ],
)
def test_what_means_that_the_store_is_away(reason: Exception, away: bool) -> None:
    assert is_away(reason) is away
