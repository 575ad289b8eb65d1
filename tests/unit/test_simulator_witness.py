"""The witness: it counts every call, lists them compactly, and can look back with another window."""

from simulator.calls import DROPPED, UNDERWAY, CallLog, Endpoint
from simulator.windows import Peak
from simulator.witness import Witness


def log_of(calls: int, keep: int = 1_000_000, page: int = 10_000) -> CallLog:
    log = CallLog(keep, page)
    for index in range(calls):
        log.append(float(index), Endpoint.GROUP, [index, index + 1], 2)
    return log


def look_back(witness: Witness, width_s: float) -> int:
    peak, begin = Peak(width_s), 0
    while begin < witness.log.next:
        begin = witness.replay(peak, begin)
    return peak.units


def test_a_call_is_kept_as_it_came() -> None:
    log = CallLog()
    first = log.append(1.5, Endpoint.GROUP, [3, 3, -1], 3)
    second = log.append(2.5, Endpoint.SINGLE, [], 1)
    log.answered(second, 429)
    calls = list(log.read(0, 10))
    assert [call.number for call in calls] == [first, second] == [1, 2]
    assert [call.at for call in calls] == [1.5, 2.5]
    assert [call.endpoint for call in calls] == [Endpoint.GROUP, Endpoint.SINGLE]
    assert [call.ids for call in calls] == [[3, 3, -1], []]
    assert [call.status for call in calls] == [UNDERWAY, 429]
    assert [call.units for call in calls] == [3, 1]


def test_the_list_is_read_in_pages_over_its_inner_borders() -> None:
    log = log_of(25, page=10)
    numbers = [[call.number for call in log.read(after, 8)] for after in (0, 8, 16, 24, 25)]
    assert numbers == [list(range(1, 9)), list(range(9, 17)), list(range(17, 25)), [25], []]
    assert [call.ids for call in log.read(9, 2)] == [[9, 10], [10, 11]]


def test_the_oldest_calls_go_when_too_many_are_kept() -> None:
    log = log_of(35, keep=30, page=10)
    assert log.first == 11
    assert [call.number for call in log.read(0, 3)] == [11, 12, 13]
    assert sum(1 for _ in log.read(0, 1000)) == 25


def test_an_answer_to_a_call_no_longer_kept_changes_nothing() -> None:
    log = log_of(35, keep=30, page=10)
    log.answered(1, 200)
    log.answered(11, 404)
    assert [call.status for call in log.read(0, 1000)] == [404] + [UNDERWAY] * 24


def test_of_an_endless_list_of_ids_only_the_beginning_is_kept() -> None:
    log = CallLog()
    log.append(0, Endpoint.GROUP, range(5000), 5000)
    call = next(log.read(0, 1))
    assert (len(call.ids), call.units) == (100, 5000)


def test_everything_that_arrives_is_counted() -> None:
    witness = Witness(60)
    for at, endpoint, units, status in ((1, Endpoint.GROUP, 20, 200), (2, Endpoint.SINGLE, 1, 429)):
        witness.answered(witness.arrived(at, endpoint, [1] * units, units), status)
    witness.answered(witness.arrived(3, Endpoint.SINGLE, [1], 0), DROPPED)
    tally = witness.tally
    assert (tally.calls, tally.units, tally.first_at, tally.last_at) == (3, 21, 1, 3)
    assert tally.statuses == {200: 1, 429: 1, DROPPED: 1}
    assert (tally.calls_to[Endpoint.SINGLE], tally.units_to[Endpoint.GROUP]) == (2, 20)
    assert witness.peak.units == 21


def test_looking_back_finds_the_peak_of_another_window_over_all_pages() -> None:
    witness = Witness(60, log_of(0, page=10))
    for at in range(35):
        witness.arrived(at, Endpoint.SINGLE, [1], 1)
    assert look_back(witness, 25) == 25
    assert look_back(witness, 1) == 1
    assert look_back(witness, 1000) == 35


def test_looking_back_begins_with_the_oldest_call_kept() -> None:
    witness = Witness(60, CallLog(keep=20, page=10))
    for at in range(30):
        witness.arrived(at, Endpoint.SINGLE, [1], 1)
    assert look_back(witness, 1000) == 20


def test_a_reset_forgets_all_but_goes_on_numbering() -> None:
    witness = Witness(60)
    old = witness.arrived(0, Endpoint.GROUP, [1] * 20, 20)
    witness.reset()
    new = witness.arrived(1, Endpoint.GROUP, [2], 1)
    witness.answered(old, 200)
    assert new == old + 1
    assert (witness.tally.calls, witness.tally.statuses, witness.peak.units) == (1, {}, 1)
    assert [call.ids for call in witness.log.read(0, 10)] == [[2]]
