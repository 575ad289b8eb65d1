"""Units: what is converted, and what columns are called."""

import pytest

from raingauge.units import CONVERSIONS, Units, column_name, converted

Shown = dict[float | None, float | None]


@pytest.mark.parametrize(
    ("units", "field", "shown"),
    [
        ("metric", "temperature", {19.4: 19.4}),
        ("metric", "wind_speed", {1.5: 1.5}),
        ("imperial", "temperature", {19.4: 66.92, -40.0: -40.0, None: None}),
        ("imperial", "feels_like", {0.0: 32.0}),
        ("imperial", "wind_speed", {10.0: 22.37}),
        ("imperial", "pressure", {1016.0: 1016.0}),
        ("imperial", "visibility", {10_000.0: 10_000.0}),
        ("standard", "temperature", {19.4: 292.55}),
        ("standard", "feels_like", {-273.15: 0.0}),
        ("standard", "wind_speed", {1.5: 1.5}),
        ("standard", "humidity", {None: None}),
    ],
)
def test_a_value_is_shown_in_the_units_of_the_provider(units: Units, field: str, shown: Shown) -> None:
    assert {stored: converted(field, stored, units) for stored in shown} == shown


@pytest.mark.parametrize(
    ("units", "names"),
    [
        ("metric", ["temperature_c", "feels_like_c", "wind_speed_m_s", "humidity_percent", "rain_1h_mm"]),
        ("imperial", ["temperature_f", "feels_like_f", "wind_speed_mph", "humidity_percent", "rain_1h_mm"]),
        ("standard", ["temperature_k", "feels_like_k", "wind_speed_m_s", "humidity_percent", "rain_1h_mm"]),
    ],
)
def test_a_column_is_named_with_its_unit(units: Units, names: list[str]) -> None:
    fields = ("temperature", "feels_like", "wind_speed", "humidity", "rain_1h")
    assert [column_name(field, units) for field in fields] == names


def test_whatever_is_converted_has_another_name_than_what_is_not() -> None:
    others: tuple[Units, ...] = ("imperial", "standard")
    for units in others:
        assert len(CONVERSIONS[units]) >= 2
        assert all(column_name(field, units) != column_name(field, "metric") for field in CONVERSIONS[units])
    assert column_name("wind_deg", "imperial") == "wind_deg"
