"""The floors of the house: the longest chain of imports below the consumer."""

from bench.house import longest_chain


def test_modules_that_import_each_other_share_a_floor() -> None:
    graph = {
        "consumer.app": {"consumer.ledger", "raingauge.model"},
        "consumer.ledger": {"raingauge.queue"},
        "raingauge.queue": {"raingauge.settling"},
        "raingauge.settling": {"raingauge.queue", "raingauge.model"},
        "raingauge.model": set(),
        "producer.app": {"producer.relay"},
        "producer.relay": set(),
    }
    chain = longest_chain({name: frozenset(below) for name, below in graph.items()})
    assert chain[:2] == ["consumer.app", "consumer.ledger"]
    assert chain[2] in {"raingauge.queue", "raingauge.settling"}
    assert chain[3:] == ["raingauge.model"]
