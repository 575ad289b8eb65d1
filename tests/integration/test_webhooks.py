"""Events reach webhooks over real HTTP: signed, again after failures, and only where they may go."""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from consumer import webhooks
from consumer.app import delivering
from consumer.metrics import webhook_counter
from consumer.webhook_client import WebhookClient, is_public, tls_context
from consumer.webhooks import AT_ONCE, JITTER, PAUSES_S, WebhookSender
from raingauge.blocking import Threads, inline
from raingauge.contracts import event_body, utc_text
from raingauge.database import Database
from raingauge.database.transactions import Transactions
from raingauge.errors import NotDelivered
from raingauge.model import DeliveryState, EventState
from raingauge.settings import NotifySettings, WebhookSettings
from raingauge.storage import events
from raingauge.storage.events import NewEvent, Subscription
from tests.contract.messaging_helpers import CLOCK, eventually
from tests.simulation.virtual import VirtualClock, VirtualLoop, run_virtually
from tests.support.certificates import Certificates
from tests.support.databases import sqlite_again
from tests.support.receiver import OTHER_SECRET, SECRET, Receiver, status
from tests.support.transactions import FailingAtFirst

T = TypeVar("T")
TOKEN = "tOkEn41mark"  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "EVERY_S", 0.02)
    monkeypatch.setattr(webhooks, "PAUSES_S", (0.05,) * 600)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@contextlib.asynccontextmanager
async def delivering_to(database: Database, *urls: str, allow_private: bool = True, **more: Any) -> AsyncIterator[None]:
    """A consumer's webhooks at work."""
    wanted = [{"url": url, "secret_file": "unused", **more} for url in urls]  # pragma: allowlist secret
    notify = NotifySettings.model_validate({"webhooks": wanted, "allow_private": allow_private})
    with contextlib.closing(Threads(4, "database")) as threads:
        async with delivering(
            notify, [SECRET] * len(urls), Transactions(database, threads, CLOCK), CLOCK, webhook_counter()
        ):
            yield


def record(database: Database, *descriptions: str) -> list[str]:
    new = [NewEvent("message", "1234", description) for description in descriptions]
    return database.write(lambda connection: events.record(connection, database.now(connection), new))


def subscribed(database: Database) -> WebhookSettings:
    """A webhook that receives all types."""
    webhook = WebhookSettings.model_validate({"url": "http://x", "secret_file": "unused"})
    wanted = [Subscription(webhook.id, webhook.shown_url, webhook.events)]
    database.write(lambda connection: events.subscribe(connection, wanted))
    return webhook


def found(database: Database, event_id: str) -> EventState:
    event = database.read(lambda connection: events.find(connection, event_id))
    assert event is not None
    return event


def deliveries(database: Database, event_id: str) -> list[DeliveryState]:
    return database.read(lambda connection: events.deliveries(connection, event_id)) or []


def delivery(database: Database, event_id: str) -> DeliveryState:
    (one,) = deliveries(database, event_id)
    return one


async def failed(database: Database, event_id: str) -> DeliveryState:
    """The delivery when an attempt has failed."""
    await eventually(lambda: delivery(database, event_id).last_error is not None)
    return delivery(database, event_id)


# -- what is sent ------------------------------------------------------------------------------------------------------


async def test_an_event_is_delivered_as_it_is_shown_with_a_signature_that_the_receiver_verifies(
    sqlite: Database, receiver: Receiver
) -> None:
    async with delivering_to(sqlite, receiver.url("/hook?x=1")):
        (event_id,) = record(sqlite, "née 🌧")
        await eventually(lambda: delivery(sqlite, event_id).status == "delivered")
    event = found(sqlite, event_id)
    expected = {"type": "message", "timestamp": utc_text(event.created_at), "data": event_body(event)}
    assert receiver.received == [expected]
    ((path, headers),) = receiver.requests
    assert (path, headers["webhook-id"], headers["content-type"]) == ("/hook?x=1", event_id, "application/json")
    assert delivery(sqlite, event_id) == DeliveryState(receiver.url(), "delivered", 1, 204, None, None)


async def test_what_is_signed_with_another_secret_is_refused_by_the_receiver_and_tried_again(sqlite: Database) -> None:
    with Receiver(secret=OTHER_SECRET) as suspicious:
        async with delivering_to(sqlite, suspicious.url()):
            (event_id,) = record(sqlite, "rain")
            await eventually(lambda: len(suspicious.requests) > 1)
            await eventually(lambda: delivery(sqlite, event_id).last_status == 401)
        assert suspicious.received == []


async def test_only_the_types_that_are_chosen_are_delivered(sqlite: Database, receiver: Receiver) -> None:
    async with delivering_to(sqlite, receiver.url(), events=["dead_letter"]):
        (other,) = record(sqlite, "rain")
        letter = NewEvent("dead_letter", "cities", "a message")
        (event_id,) = sqlite.write(lambda connection: events.record(connection, sqlite.now(connection), [letter]))
        await eventually(lambda: receiver.event_ids == [event_id])
    assert deliveries(sqlite, other) == []


async def test_user_and_password_are_sent_and_nothing_secret_is_shown_or_logged(
    sqlite: Database, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def echo(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(f"{request.requestline} {request.headers}".encode())

    receiver.answer = echo
    async with delivering_to(sqlite, receiver.url(f"/hook?token={TOKEN}", user=f"user:{TOKEN}%40@")):
        (event_id,) = record(sqlite, "rain")
        one = await failed(sqlite, event_id)
    assert receiver.requests[0][0] == f"/hook?token={TOKEN}"
    assert receiver.requests[0][1]["authorization"] == "Basic dXNlcjp0T2tFbjQxbWFya0A="
    assert (one.webhook, one.last_error) == (receiver.url(), "no valid answer: RemoteProtocolError")
    assert "webhook.failed" in caplog.text
    logged = f"{caplog.text} {[vars(line) for line in caplog.records]}"
    assert not [mark for mark in (TOKEN, SECRET[6:], "dXNlcjp0T2tFbjQx") if mark in f"{logged} {one}"]


# -- receivers that fail -----------------------------------------------------------------------------------------------


async def test_a_receiver_that_was_killed_gets_everything_when_it_is_back(sqlite: Database, receiver: Receiver) -> None:
    async with delivering_to(sqlite, receiver.url()):
        first = record(sqlite, "before")
        await eventually(lambda: receiver.event_ids == first)
        receiver.stop()
        missed = record(sqlite, *map(str, range(10)))
        assert (await failed(sqlite, missed[0])).last_error == "no connection"
        with Receiver(receiver.port) as back:
            await eventually(lambda: set(back.event_ids) == set(missed))
            await eventually(lambda: {delivery(sqlite, one).status for one in missed} == {"delivered"})


async def test_410_ends_the_delivery_of_that_event_alone(sqlite: Database, receiver: Receiver) -> None:
    with Receiver() as other:
        async with delivering_to(sqlite, receiver.url(), other.url("/other")):
            receiver.answer = status(410)
            (gone,) = record(sqlite, "rain")
            await eventually(lambda: {one.status for one in deliveries(sqlite, gone)} == {"gone", "delivered"})
            receiver.answer = status(200)
            (event_id,) = record(sqlite, "sun")
            await eventually(lambda: [one.status for one in deliveries(sqlite, event_id)] == ["delivered"] * 2)
    assert receiver.event_ids == [gone, event_id]


@pytest.mark.parametrize("code", [302, 307, 400, 429, 500])
async def test_other_answers_are_failures_and_redirects_lead_nowhere(
    sqlite: Database, receiver: Receiver, code: int
) -> None:
    receiver.answer = status(code, Location=receiver.url("/elsewhere"))
    async with delivering_to(sqlite, receiver.url()):
        (event_id,) = record(sqlite, "rain")
        one = await failed(sqlite, event_id)
    assert (one.status, one.last_status, one.last_error) == ("waiting", code, f"the receiver answered {code}")
    assert {path for path, _ in receiver.requests} == {"/hook"}


async def test_a_receiver_that_hangs_holds_up_nobody_and_gets_a_few_at_once(
    sqlite: Database, receiver: Receiver
) -> None:
    receiver.answer = receiver.hang
    with Receiver() as quick:
        async with delivering_to(sqlite, receiver.url(), quick.url()):
            ids = record(sqlite, *map(str, range(3 * AT_ONCE)))
            await eventually(lambda: set(quick.event_ids) == set(ids))
            await eventually(lambda: len(receiver.requests) == AT_ONCE)
    assert receiver.most_under_way == AT_ONCE


async def test_an_attempt_ends_at_its_deadline_whatever_the_receiver_sends(
    sqlite: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 204 No Content\r\n")
        with contextlib.suppress(OSError):
            while not receiver.released.wait(0.02):
                request.wfile.write(b"x: y\r\n")

    monkeypatch.setattr(webhooks, "TIMEOUT_S", 0.5)
    receiver.answer = trickle
    async with delivering_to(sqlite, receiver.url()):
        (event_id,) = record(sqlite, "rain")
        assert (await failed(sqlite, event_id)).last_error == "no answer within 0.5 s"


async def test_a_body_without_end_is_not_read(sqlite: Database, receiver: Receiver) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):
            while True:
                request.wfile.write(b"x" * 65536)
        loop.call_soon_threadsafe(ended.set)

    receiver.answer = flood
    async with delivering_to(sqlite, receiver.url()):
        (event_id,) = record(sqlite, "rain")
        await eventually(lambda: delivery(sqlite, event_id).status == "delivered")
        await asyncio.wait_for(ended.wait(), 10)


async def test_an_error_of_our_own_counts_as_a_failure_and_ends_nothing_else(sqlite: Database) -> None:
    async def post(headers: object, body: bytes) -> int:
        if "bad" in json.loads(body)["data"]["description"]:
            raise ZeroDivisionError
        return 204

    webhook = subscribed(sqlite)
    bad, good = record(sqlite, "bad", "good")
    sender = WebhookSender(webhook, SECRET, post, Transactions(sqlite, inline, CLOCK), CLOCK, webhook_counter())
    assert await sender.deliver_due() == 1
    assert delivery(sqlite, good).status == "delivered"
    assert delivery(sqlite, bad).last_error == "internal error"


async def test_it_goes_on_after_errors_of_the_database(sqlite: Database, receiver: Receiver) -> None:
    async def post(headers: object, body: bytes) -> int:
        return 204

    webhook = subscribed(sqlite)
    (event_id,) = record(sqlite, "rain")
    sender = WebhookSender(webhook, SECRET, post, FailingAtFirst(sqlite), CLOCK, webhook_counter())
    sending = asyncio.create_task(sender.run())
    await eventually(lambda: delivery(sqlite, event_id).status == "delivered")
    sending.cancel()


async def test_two_consumers_share_the_deliveries(sqlite: Database, receiver: Receiver) -> None:
    async with delivering_to(sqlite, receiver.url()), delivering_to(sqlite, receiver.url()):
        ids = record(sqlite, *map(str, range(50)))
        await eventually(lambda: all(delivery(sqlite, one).status == "delivered" for one in ids))
    assert sorted(receiver.event_ids) == sorted(ids)


def in_virtual_time(template: Path, work: Callable[[Database, VirtualClock], Coroutine[Any, Any, T]]) -> T:
    """What the work gives, on a fresh database."""
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    with sqlite_again(template) as engine:
        return cast("T", run_virtually(work(Database(engine, clock.of_database), clock), loop))


def test_a_delivery_is_attempted_for_more_than_a_day_and_then_given_up(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES_S", PAUSES_S)
    monkeypatch.setattr(webhooks, "EVERY_S", 1.0)
    attempts: list[float] = []
    counted = webhook_counter()

    async def day(database: Database, clock: VirtualClock) -> DeliveryState:
        async def refuse(headers: object, body: bytes) -> int:
            attempts.append(clock.monotonic())
            raise NotDelivered("no connection")

        webhook = subscribed(database)
        (event_id,) = record(database, "rain")
        sender = WebhookSender(webhook, SECRET, refuse, Transactions(database, inline, clock), clock, counted)
        await sender.deliver_due()
        while (one := delivery(database, event_id)).next_attempt_at is not None:
            await clock.sleep((one.next_attempt_at - clock.now()) / timedelta(seconds=1) - 0.01)
            assert (await sender.deliver_due(), delivery(database, event_id)) == (0, one), "too early"
            await clock.sleep(0.02)
            await sender.deliver_due()
        return one

    one = in_virtual_time(template, day)
    assert (one.status, one.attempts, one.last_error) == ("given_up", len(PAUSES_S) + 1, "no connection")
    samples = (sample for family in counted.collect() for sample in family.samples)
    counts = [sample.value for sample in samples if sample.name.endswith("_total")]
    assert counts == [len(PAUSES_S), 0, 0, 1], "waiting, delivered, gone, given up"
    pauses = [after - before for before, after in pairwise(attempts)]
    for pause, planned in zip(pauses, PAUSES_S, strict=True):
        assert pause / planned == pytest.approx(1 + JITTER / 2, abs=JITTER / 2 + 0.01)
    assert sum(PAUSES_S) > 86_400


@pytest.mark.parametrize(("answers", "made"), [(204, 100), (503, 4 * 10)])
def test_a_receiver_that_works_gets_all_at_once_and_one_that_fails_is_not_hurried(
    template: Path, monkeypatch: pytest.MonkeyPatch, answers: int, made: int
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES_S", (3600,))
    monkeypatch.setattr(webhooks, "EVERY_S", 1.0)
    attempts: list[object] = []

    async def ten_seconds(database: Database, clock: VirtualClock) -> None:
        async def post(headers: object, body: bytes) -> int:
            attempts.append(body)
            return answers

        webhook = subscribed(database)
        record(database, *map(str, range(100)))
        transactions = Transactions(database, inline, clock)
        sender = asyncio.create_task(WebhookSender(webhook, SECRET, post, transactions, clock, webhook_counter()).run())
        await clock.sleep(9.5)
        sender.cancel()

    in_virtual_time(template, ten_seconds)
    assert len(attempts) == made


# -- where requests may go ---------------------------------------------------------------------------------------------

PRIVATE = [
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::10.0.0.1", "2001:db8::1", "2002:7f00:1::"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::8.8.8.8"])
def test_a_public_address_is_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_private_addresses_are_called_only_where_that_is_allowed(
    sqlite: Database, receiver: Receiver, host: str
) -> None:
    async with delivering_to(sqlite, receiver.url(host=host), allow_private=False):
        (event_id,) = record(sqlite, "rain")
        one = await failed(sqlite, event_id)
    assert one.last_error == "an address of the host is not public: see notify.allow_private"
    assert receiver.requests == []


class Resolver:
    """Answers one list of addresses after the other, in place of the system's resolver."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = [*answers]

    async def __call__(self, work: object) -> Any:
        return self.answers.pop(0)


def client(receiver: Receiver, resolver: Resolver, tls: ssl.SSLContext | None = None, **more: Any) -> WebhookClient:
    scheme = "https" if tls else "http"
    webhook = {"url": receiver.url(scheme=scheme, host="name.invalid"), "secret_file": "unused"}
    url = WebhookSettings.model_validate(webhook).url
    return WebhookClient(url, tls or ssl.create_default_context(), resolver, **{"allow_private": True, **more})


async def test_the_address_that_was_checked_is_called_whatever_the_name_leads_to_later(receiver: Receiver) -> None:
    resolver = Resolver(["127.0.0.1"], ["8.8.8.8"])
    assert await client(receiver, resolver).post({}, b"") == 401
    assert receiver.requests[0][1]["Host"] == f"name.invalid:{receiver.port}"
    assert len(resolver.answers) == 1


@pytest.mark.parametrize("addresses", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"]])
async def test_a_name_is_refused_if_any_of_its_addresses_is_private(receiver: Receiver, addresses: list[str]) -> None:
    with pytest.raises(NotDelivered, match="not public"):
        await client(receiver, Resolver(addresses), allow_private=False).post({}, b"")
    assert receiver.requests == []


async def test_the_next_address_is_tried_when_one_refuses(receiver: Receiver) -> None:
    assert await client(receiver, Resolver(["127.0.0.2", "127.0.0.1"])).post({}, b"") == 401


async def test_a_name_that_cannot_be_resolved_is_a_failure(sqlite: Database) -> None:
    async with delivering_to(sqlite, "http://nowhere.invalid/hook"):
        (event_id,) = record(sqlite, "rain")
        assert (await failed(sqlite, event_id)).last_error == "the host's name cannot be resolved"


@pytest.mark.parametrize(("name", "trusted"), [("name.invalid", True), ("name.invalid", False), ("other.test", True)])
async def test_a_certificate_has_to_be_trusted_and_name_the_host(tmp_path: Path, name: str, trusted: bool) -> None:
    issued = Certificates(tmp_path / "issued")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*issued.issue("receiver", name))
    with Receiver(tls=server) as receiver:
        sender = client(receiver, Resolver(["127.0.0.1"]), tls_context(str(issued.ca) if trusted else None))
        if trusted and name == "name.invalid":
            assert await sender.post({}, b"") == 401
        else:
            with pytest.raises(NotDelivered, match=r"^no TLS: CERTIFICATE_VERIFY_FAILED$"):
                await sender.post({}, b"")
