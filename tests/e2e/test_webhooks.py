"""Webhooks of whole programs: delivered across a kill -9, and a secret that is missing ends the start."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import update

from raingauge.database import open_database
from raingauge.storage.models import WebhookDelivery
from tests.e2e.running import settings_for
from tests.support.eventually import eventually
from tests.support.processes import Program, launched, program
from tests.support.receiver import Receiver, secret_file, status

pytestmark = pytest.mark.long
START_S = 40.0


def settings(folder: Path, receiver: Receiver, secret: str) -> dict[str, str]:
    webhook = {"url": receiver.url(), "secret_file": secret, "events": ["message"]}
    notify = {"notify__webhooks": json.dumps([webhook]), "notify__allow_private": True}
    return settings_for("http://127.0.0.1:1", f"sqlite:///{folder}/own.db", notify)


def report(service: Program) -> str:
    answer = requests.post(f"{service.url}/events", json={"user_id": "1234", "description": "rain"}, timeout=10)
    event_id: str = answer.json()["event_id"]
    return event_id


def delivery(service: Program, event_id: str) -> dict[str, Any]:
    one: dict[str, Any]
    (one,) = service.get(f"/events/{event_id}/deliveries")
    return one


def test_what_was_under_way_or_waiting_at_a_kill_is_delivered_after_the_next_start(tmp_path: Path) -> None:
    with Receiver() as receiver:
        environment = settings(tmp_path, receiver, secret_file(tmp_path))
        with program("standalone", settings=environment) as service:
            receiver.answer = status(500)
            waiting = report(service)
            eventually(lambda: delivery(service, waiting)["last_status"] == 500, 10)
            receiver.answer = receiver.hang
            under_way = report(service)
            eventually(lambda: under_way in receiver.event_ids, 10)
            service.kill()
        with closing(open_database(environment["RAINGAUGE_DATABASE__URL"])) as database:  # its lease has run out
            database.write(lambda c: c.execute(update(WebhookDelivery).values(due_at=database.now(c))))
        receiver.answer = status(204)
        receiver.received.clear()
        with program("standalone", settings=environment) as service:
            eventually(lambda: {waiting, under_way} <= set(receiver.event_ids), START_S)
            eventually(lambda: all(delivery(service, one)["status"] == "delivered" for one in (waiting, under_way)), 10)
            assert "Traceback" not in service.output


@pytest.mark.parametrize("module", ["standalone", "consumer"])
def test_a_program_whose_secret_is_missing_ends_with_status_2_and_one_line(module: str, tmp_path: Path) -> None:
    with Receiver() as receiver:
        environment = settings(tmp_path, receiver, f"{tmp_path}/missing")
        environment["RAINGAUGE_BROKER__URL"] = "kafka://127.0.0.1:1" if module == "consumer" else "inprocess://"
        with launched(module, settings=environment) as refused:
            assert refused.ended() == 2
    expected = f"notify.webhooks.0.secret_file: cannot read {tmp_path}/missing: No such file or directory"
    assert [line for line in refused.lines if "program.started" not in line] == [expected]
