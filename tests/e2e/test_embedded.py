"""Embedded mode as a process, against the simulator as the provider that enforces its quota in any rolling window."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.e2e.running import settings_for
from tests.support.eventually import eventually
from tests.support.processes import ROOT, Program, launched, program, simulator

pytestmark = pytest.mark.long
WINDOW_S = 4.0
QUOTA = 60
CITIES = 167
SMOOTH_OPTIMUM_S = 160 * WINDOW_S / 60
MOST_CALLS = 20
"""Ten at full scale (tests/simulation/test_optimum.py); so much faster, a busy machine's delays split some."""
BURST_OPTIMUM_S = 2 * WINDOW_S
START_UP_S = 30.0


@contextmanager
def embedded(folder: Path, provider: Program, **more: object) -> Iterator[Program]:
    quota: dict[str, object] = {"quota__cities_per_window": QUOTA, "quota__window_s": WINDOW_S}
    settings = settings_for(provider.url, f"sqlite:///{folder}/raingauge.db", quota | more)
    with program("standalone", settings=settings) as running:
        yield running


@contextmanager
def provider(*arguments: str) -> Iterator[Program]:
    with simulator("--quota", str(QUOTA), "--window-s", str(WINDOW_S), "--latency-s", "0.02", *arguments) as running:
        yield running


def assert_all_collected_within_the_quota(state: dict[str, Any], witness: dict[str, Any]) -> None:
    assert (state["total"], state["collected"], state["failed"]) == (CITIES, CITIES, 0)
    assert len({row["city_id"] for row in state["data"]}) == CITIES
    assert set(witness["statuses"]) == {"200"}
    assert witness["most_in_window"] <= QUOTA


def took(witness: dict[str, Any]) -> float:
    """Seconds from the first call to the last, as the provider saw them."""
    return float(witness["last_at_s"] - witness["first_at_s"])


def test_smooth_pacing_collects_the_default_cities_at_the_optimum(tmp_path: Path) -> None:
    with provider() as weather, embedded(tmp_path, weather) as service:
        assert service.collect(id=1).status_code == 202
        state = service.done(1, SMOOTH_OPTIMUM_S + START_UP_S)
        witness = weather.get("/control/witness")
    assert_all_collected_within_the_quota(state, witness)
    assert took(witness) <= 1.05 * SMOOTH_OPTIMUM_S
    assert witness["units"] == CITIES
    assert witness["calls"] <= MOST_CALLS


def test_burst_pacing_collects_them_in_two_windows(tmp_path: Path) -> None:
    with provider() as weather, embedded(tmp_path, weather, quota__pacing="burst") as service:
        service.collect(id=1)
        state = service.done(1, BURST_OPTIMUM_S + START_UP_S)
        witness = weather.get("/control/witness")
        eventually(lambda: service.scrape()["raingauge_handoff_lag_messages{partition=0}"] == 0, 20)
        metrics = service.scrape()
    assert metrics["raingauge_cities_collected_total"] == CITIES
    assert metrics["raingauge_collections{state=done}"] == metrics["raingauge_collections_accepted_total"] == 1
    assert metrics["raingauge_event_loop_lag_seconds_count"] > 0
    assert_all_collected_within_the_quota(state, witness)
    assert took(witness) <= 1.1 * BURST_OPTIMUM_S


def test_stopped_or_killed_in_the_middle_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with provider() as weather:
        with embedded(tmp_path, weather) as service:
            service.collect(id=1)
            eventually(lambda: service.get("/get", id="1")["collected"] >= 20, START_UP_S)
            assert service.stop() == 0
        with embedded(tmp_path, weather) as service:
            before = eventually(lambda: service.get("/get", id="1")["collected"], START_UP_S)
            eventually(lambda: service.get("/get", id="1")["collected"] > before, START_UP_S)
            service.kill()
        with embedded(tmp_path, weather) as service:
            state = service.done(1, SMOOTH_OPTIMUM_S + START_UP_S + 60)
        witness = weather.get("/control/witness")
    assert_all_collected_within_the_quota(state, witness)
    assert witness["units"] <= CITIES + 20


def test_without_a_key_it_starts_the_simulator_in_any_folder_and_says_so(tmp_path: Path) -> None:
    settings = {"RAINGAUGE_HTTP__PORT": "0", "PYTHONPATH": str(ROOT), "RAINGAUGE_STREAMS__ENABLED": "true"}
    with program("standalone", settings=settings, cwd=tmp_path) as service:
        assert sum("simulated" in line for line in service.lines) == 1
        assert "  streams   var/simulator-streams" in service.lines
        service.collect(id="small", cities=[3439525, 3439781])
        state = service.done("small", START_UP_S)
    assert [row["city_id"] for row in state["data"]] == [3439525, 3439781]
    assert all(-60 < row["temperature"] < 60 for row in state["data"])
    assert f'program.started settings="no config.env.yml in {tmp_path}"' in service.output
    assert (tmp_path / "var/simulator.db").exists()
    assert (tmp_path / "var/simulator-streams/readings.jsonl").exists()


def test_a_finished_collection_is_exported_to_a_folder(tmp_path: Path) -> None:
    settings = {"RAINGAUGE_EXPORT__FOLDER": f"{tmp_path}/export", "RAINGAUGE_HTTP__PORT": "0", "PYTHONPATH": str(ROOT)}
    with program("standalone", settings=settings, cwd=tmp_path) as service:
        service.collect(id=1, cities=[3439525, 3439781])
        eventually((tmp_path / "export/1.json").exists, START_UP_S)
    document = json.loads((tmp_path / "export/1.json").read_text())
    assert (document["user_id"], [row["city_id"] for row in document["cities"]]) == (1, [3439525, 3439781])


def events_in(file: Path) -> list[dict[str, Any]]:
    """The events in a file of a stream, as far as their lines are whole."""
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_every_reading_is_in_the_streams_files_although_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "streams"
    streams = {"streams__enabled": True, "streams__folder": folder}
    with provider() as weather:
        with embedded(tmp_path, weather, **streams) as service:
            service.collect(id=1)
            eventually(lambda: len(events_in(folder / "readings.jsonl")) >= 20, START_UP_S)
            service.kill()
        with (folder / "readings.jsonl").open("a") as file:
            file.write('{"specversion": "1.0", "id": "1/34')  # as if it had been killed while it wrote
        with embedded(tmp_path, weather, **streams) as service:
            state = service.done(1, SMOOTH_OPTIMUM_S + START_UP_S + 60)
            eventually(lambda: service.scrape()["raingauge_stream_lag_seconds"] == 0, 60)
            assert "streams.repaired" in service.output
            schema = Draft202012Validator(service.get("/schemas/reading.json"))
    published, latest = (events_in(folder / f"{topic}.jsonl") for topic in ("readings", "latest"))
    rows = {f"1/{row['city_id']}": row for row in state["data"]}
    subjects = [event["id"].rpartition("/")[0] for event in published]
    assert set(subjects) == rows.keys()
    assert {event["id"].partition("/")[0] for event in latest} == {name.partition("/")[2] for name in rows}
    for subject, event in zip(subjects, published, strict=True):
        schema.validate(event["data"])
        assert event["data"]["temperature"] == rows[subject]["temperature"]


@pytest.mark.parametrize(
    ("module", "setting"), [("consumer", "export"), ("standalone", "export"), ("standalone", "streams")]
)
def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(module: str, setting: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broker = "kafka://127.0.0.1:1" if module == "consumer" else "inprocess://"
    own = {"broker__url": broker, "streams__enabled": setting == "streams", f"{setting}__folder": tmp_path / "file"}
    settings = settings_for("http://127.0.0.1:1", f"sqlite:///{tmp_path}/own.db", own)
    with launched(module, settings=settings) as refused:
        assert refused.ended() == 2
    assert refused.lines[-1] == f"{setting}.folder: cannot write to {tmp_path}/file: File exists"


def test_simulated_and_real_weather_never_get_into_one_database(tmp_path: Path) -> None:
    simulated = {"RAINGAUGE_HTTP__PORT": "0"}
    real = simulated | {"OPENWEATHER_API_KEY": tmp_path.name, "RAINGAUGE_OPENWEATHER__BASE_URL": "http://127.0.0.1:1"}
    for kind, first, second in (("simulated", simulated, real), ("real", real, simulated)):
        database = {"RAINGAUGE_DATABASE__URL": f"sqlite:///{tmp_path}/{kind}.db"}
        with program("standalone", settings=first | database) as service:
            assert service.stop() == 0
        with launched("standalone", settings=second | database) as refused:
            assert refused.ended() == 2
        assert f"database.url: {kind} weather is in this database" in refused.output


def test_a_second_process_on_the_same_file_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    settings = {"RAINGAUGE_DATABASE__URL": f"sqlite:///{tmp_path}/own.db", "RAINGAUGE_HTTP__PORT": "0"}
    with program("standalone", settings=settings) as first:
        with launched("standalone", settings=settings) as second:
            assert second.ended() == 2
        assert "database.url: another embedded process works on this database" in second.output
        first.collect(id="small", cities=[3439525])
        first.kill()
    with program("standalone", settings=settings) as third:
        third.done("small", START_UP_S)
        assert third.stop() == 0
