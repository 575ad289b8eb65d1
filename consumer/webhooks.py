"""Delivers events to one webhook: signed as Standard Webhooks says, again at growing intervals until it answers.

What is to be delivered, and what has become of it, is in the database. A delivery is leased, attempted and recorded: a
crash before it is recorded repeats it, so a receiver gets each event at least once. This module must not know how a
request is sent, and no log line of it contains a URL's query or a secret.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from prometheus_client import Counter
from sqlalchemy import Connection
from standardwebhooks import Webhook

from raingauge.background import repeated
from raingauge.clock import Clock
from raingauge.contracts import event_body, utc_text
from raingauge.database.transactions import Transactions
from raingauge.errors import NotDelivered
from raingauge.model import DeliveryStatus, EventState
from raingauge.settings import WebhookSettings
from raingauge.storage import events
from raingauge.storage.events import DueDelivery, Outcome

log = logging.getLogger("raingauge.webhooks")

PAUSES_S: Final = (5, 60, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""After the first failed attempt, after the second, …; 27.6 hours in all. After the last one it is given up."""
JITTER: Final = 0.1
"""The share by which a pause may be longer, so that what failed together is not repeated together."""
AT_ONCE: Final = 4
"""Attempts under way at once."""
TIMEOUT_S: Final = 10.0
"""For one attempt, from the name's resolution to the answer's headers."""
LEASE: Final = timedelta(seconds=30)
EVERY_S: Final = 1.0
"""Between two looks for what is due."""
GONE: Final = 410

Post = Callable[[Mapping[str, str], bytes], Awaitable[int]]
"""Sends headers and a body to the receiver; the status of its answer. Raises NotDelivered."""


class WebhookSender:
    """Delivers the events of one webhook."""

    def __init__(
        self,
        webhook: WebhookSettings,
        secret: str,
        post: Post,
        transactions: Transactions,
        clock: Clock,
        attempts: Counter,
    ) -> None:
        self._id = webhook.id
        self._shown_url = webhook.shown_url
        self._signer = Webhook(secret)
        self._post = post
        self._transactions = transactions
        self._clock = clock
        self._attempts = attempts

    async def run(self) -> None:
        """Deliver until cancelled. What is under way by then is attempted again when its lease expires."""
        await repeated(self._round, lambda: self._clock.sleep(EVERY_S))

    async def _round(self) -> bool:
        return await self.deliver_due() == AT_ONCE  # a receiver that fails is not hurried

    async def deliver_due(self) -> int:
        """Attempt what is due, up to `AT_ONCE` events side by side; return how many were delivered."""
        due = await self._transactions.write(self._lease)
        async with asyncio.TaskGroup() as attempts:
            tasks = [attempts.create_task(self._deliver(one)) for one in due]
        return sum(task.result() for task in tasks)

    def _lease(self, connection: Connection) -> list[DueDelivery]:
        now = self._transactions.now(connection)
        return events.lease_deliveries(connection, self._id, now, now + LEASE, AT_ONCE)

    async def _deliver(self, due: DueDelivery) -> bool:
        """Make an attempt and record its outcome, as soon as the database can; return whether it succeeded."""
        status, error = await self._attempt(due.event)
        becomes: DeliveryStatus = "waiting"
        if error is None:
            becomes = "delivered"
        elif status == GONE:
            becomes = "gone"
        elif due.attempts >= len(PAUSES_S):
            becomes = "given_up"
        self._attempts.labels(becomes).inc()
        if error is not None:
            where = {"webhook": self._shown_url, "event_id": due.event.event_id}
            log.warning("webhook.failed", extra={**where, "attempt": due.attempts + 1, "error": error, "now": becomes})

        def record(connection: Connection) -> None:
            due_at = None
            if becomes == "waiting":
                pause_s = PAUSES_S[due.attempts] * random.uniform(1.0, 1.0 + JITTER)
                due_at = self._transactions.now(connection) + timedelta(seconds=pause_s)
            events.end_attempt(connection, self._id, due, Outcome(becomes, status, error, due_at))

        await self._transactions.persist(record)
        return becomes == "delivered"

    async def _attempt(self, event: EventState) -> tuple[int | None, str | None]:
        """The status of the receiver's answer, if there was one, and why the attempt failed, if it did."""
        headers, body = self._message(event)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._post(headers, body)
        except TimeoutError:
            return None, f"no answer within {TIMEOUT_S:g} s"
        except NotDelivered as error:
            return None, str(error)
        except Exception:
            log.exception("webhook.unexpected", extra={"webhook": self._shown_url})
            return None, "internal error"
        return status, None if 200 <= status < 300 else f"the receiver answered {status}"

    def _message(self, event: EventState) -> tuple[dict[str, str], bytes]:
        """Headers and body, as https://www.standardwebhooks.com describes them."""
        body = json.dumps({"type": event.type, "timestamp": utc_text(event.created_at), "data": event_body(event)})
        now = self._clock.now()
        headers = {
            "content-type": "application/json",
            "user-agent": "raingauge",
            "webhook-id": event.event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(event.event_id, now, body),
        }
        return headers, body.encode()
