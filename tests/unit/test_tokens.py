"""The form of tokens, their digests, scopes, and the bucket of requests."""

import binascii
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.access.rates import Bucket
from producer.access.rules import needed
from raingauge.access.tokens import (
    ALPHABET,
    NAME,
    Scope,
    digest,
    digest_of_session,
    is_token,
    looks_like_token,
    new_token,
    session_of,
)


def test_a_token_has_a_prefix_32_random_bytes_and_their_checksum_as_githubs_have() -> None:
    token = new_token()
    match = re.fullmatch(r"rg_([0-9A-Za-z]{43})([0-9A-Za-z]{6})", token)
    assert match is not None
    value = 0
    for digit in match[2]:
        value = value * 62 + ALPHABET.index(digit)
    assert value == binascii.crc32(match[1].encode())
    assert is_token(token)
    assert len({new_token() for _ in range(100)}) == 100


@given(st.integers(0, 51), st.sampled_from(ALPHABET + "_é \n"))
def test_a_mistyped_token_is_none(place: int, character: str) -> None:
    token = new_token()
    mistyped = token[:place] + character + token[place + 1 :]
    assert is_token(mistyped) == (mistyped == token)
    assert not is_token(token + character)


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        (new_token(), True),
        (f"Bearer {new_token()}", True),
        (f" {new_token()[:20]}\n", True),
        ("/run/secrets/rg_ci", False),
        ("ci", False),
    ],
    ids=["token", "within", "cut off", "path", "name"],
)
def test_what_may_be_a_token_is_recognised_wherever_it_stands(text: str, looks: bool) -> None:
    assert looks_like_token(text) is looks


def test_no_token_is_the_name_of_one() -> None:
    assert NAME.fullmatch("rg_ci")
    assert NAME.fullmatch(new_token()) is None
    assert NAME.fullmatch(f"ci-{new_token()}") is None


def test_what_is_stored_is_a_hash_of_the_session_which_is_a_hash_of_the_token() -> None:
    token = new_token()
    session = hashlib.sha256(token.encode()).hexdigest()
    assert session_of(token) == session
    assert digest(token) == digest_of_session(session) == hashlib.sha256(session.encode()).hexdigest()


@pytest.mark.parametrize(
    ("scope", "requests"),
    [
        (None, ["HEAD /health", "DELETE /session"]),
        ("read", ["GET /anything/new", "OPTIONS /collect", "GET /session", "GET /staticfile"]),
        ("write", ["POST /anything/new", "BREW /anything", "POST /health"]),
        ("admin", ["DELETE /anything/new", "PATCH /quota/gate"]),
    ],
)
def test_what_a_request_needs_follows_from_its_method(scope: Scope | None, requests: list[str]) -> None:
    assert {each: needed(*each.split()) for each in requests} == dict.fromkeys(requests, scope)


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_a_bucket_lets_no_more_through_than_its_rate_and_a_second_in_advance(rate: float, pauses: list[float]) -> None:
    bucket, now_s, taken = Bucket(rate), 1000.0, 0
    for pause_s in pauses:
        now_s += pause_s
        wait_s = bucket.take(now_s)
        taken += wait_s == 0
        assert 0 <= wait_s <= 1 / rate + 1
    assert taken <= max(1, rate) + (now_s - 1000) * rate + 1e-6
