"""Schedules of the settings: read and checked at the producer's start, then stored beside those of the API."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from producer.schedules import budget, storage
from producer.schedules.budget import Demand, Overspent
from producer.schedules.running import CHANGED, skipped
from producer.schedules.storage import Definition
from producer.schedules.times import Times, WrongExpression
from raingauge.cities.ids import read_city_ids
from raingauge.contracts import MAX_CITY_ID
from raingauge.database.transactions import Transactions
from raingauge.errors import SettingsError, UnusableFile
from raingauge.settings import ScheduleSettings, Settings

log = logging.getLogger("raingauge.schedules")

ORIGIN: Final = "settings"


def definitions(settings: Settings) -> list[Definition]:
    """The schedules of the settings, with the cities of their files.

    Raises:
        SettingsError: an expression, a zone or a file of cities is wrong, or one has too many cities.
    """
    return [_definition(f"schedules.{place}", one, settings) for place, one in enumerate(settings.schedules)]


def _definition(setting: str, given: ScheduleSettings, settings: Settings) -> Definition:
    try:
        times = Times(None if given.cron is None else " ".join(given.cron.split()), given.every_s, given.zone)
    except WrongExpression as error:
        raise SettingsError(f"{setting}.{error.field}: {error}") from error
    city_ids = given.cities if given.cities_file is None else _of_file(f"{setting}.cities_file", given.cities_file)
    distinct = None if city_ids is None else tuple(dict.fromkeys(city_ids))
    limit = settings.collect.max_cities
    if distinct is not None and len(distinct) > limit:
        raise SettingsError(f"{setting}: a collection has at most {limit:,} distinct cities, not {len(distinct):,}")
    max_age_s = settings.freshness.max_age_s if given.max_age_s is None else given.max_age_s
    return Definition(given.name, times, distinct, max_age_s, given.missed, given.overlap)


def _of_file(setting: str, file: str) -> list[int]:
    try:
        city_ids = read_city_ids(file, Path(file).read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{setting}: cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{setting}: {file} is not UTF-8 text") from error
    except UnusableFile as error:
        raise SettingsError(f"{setting}: {error}") from error
    wrong = next((city_id for city_id in city_ids if not 1 <= city_id <= MAX_CITY_ID), None)
    if wrong is not None:
        raise SettingsError(f"{setting}: {file}: {wrong} is no city id: they are 1 to {MAX_CITY_ID}")
    return city_ids


class SettingsSchedules:
    """Stores what the settings say of schedules, and removes what they say no longer."""

    def __init__(
        self,
        transactions: Transactions,
        wanted: Sequence[Definition],
        default_cities: Sequence[int],
        cities_per_month: int,
    ) -> None:
        self._transactions = transactions
        self._wanted = wanted
        self._default_cities = default_cities
        self._budget = cities_per_month

    def store(self, connection: Connection) -> None:
        """Make the stored schedules of the settings what the settings say.

        One that has not changed keeps its next time, so missed runs are made up for; one that was paused stays paused.

        Raises:
            SettingsError: the API has a schedule of that name with another content, or the month does not pay for all.
        """
        names = {one.name for one in self._wanted}
        for name in storage.of_settings(connection):
            if name not in names:
                storage.lock(connection, name)
                storage.remove(connection, name)
                log.info("schedule.removed", extra={"schedule": name})
        self._check_budget(connection)
        for wanted in sorted(self._wanted, key=lambda one: one.name):
            self._store(connection, wanted)

    def _store(self, connection: Connection, wanted: Definition) -> None:
        state = storage.lock(connection, wanted.name)
        now = self._transactions.now(connection)
        if state is None:
            storage.add(connection, now, wanted, ORIGIN)
            return
        before = storage.definition(connection, state)
        if wanted.is_like(before):
            if state.origin != ORIGIN:
                storage.store(connection, now, wanted, ORIGIN, state.next_at)
            return
        if state.origin != ORIGIN:
            what = "a schedule of this name was created through the API with another content"
            raise SettingsError(f"schedules: {wanted.name}: {what}: choose another name, or delete that one first")
        storage.record(connection, wanted.name, skipped(state, now, CHANGED))
        next_at = wanted.times.after(now) if state.paused_at is None else None
        storage.store(connection, now, wanted, ORIGIN, next_at)

    def _check_budget(self, connection: Connection) -> None:
        """Check the settings' schedules alone: those of the API must not prevent the start."""
        now = self._transactions.now(connection)
        demands: list[Demand] = []
        for wanted in self._wanted:
            cities = len(self._default_cities if wanted.city_ids is None else wanted.city_ids)
            demand = Demand(wanted.times, cities, wanted.max_age_s)
            try:
                budget.check(demand, demands, self._budget, now)
            except Overspent as error:
                raise SettingsError(f"schedules: {wanted.name}: {error}") from error
            demands.append(demand)
