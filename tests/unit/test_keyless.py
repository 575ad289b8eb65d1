"""Without a key every call is refused as the provider would, and none is made."""

import pytest

from consumer.calls import combine
from consumer.gate import Event
from consumer.keyless import Keyless
from consumer.provider.port import Provider, Reason, Refusal


@pytest.mark.parametrize("group", [True, False])
def test_without_a_key_each_call_is_refused_because_of_the_key(group: bool) -> None:
    provider: Provider = Keyless()
    reply = provider.group([1, 2], send_by=0.0) if group else provider.single(1, send_by=0.0)
    assert isinstance(reply, Refusal)
    assert (reply.reason, reply.closes) == (Reason.KEY, True)
    assert "OPENWEATHER_API_KEY" in reply.message
    assert combine([([1], reply)]).event is Event.KEY
