"""Opens the service's database for one command of an operator."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url

from raingauge.database.database import Database, open_database
from raingauge.errors import DatabaseUnavailable, Fatal, SettingsError
from raingauge.settings import Settings


@contextmanager
def command_database(settings: Settings) -> Iterator[Database]:
    """The service's database. A missing SQLite file is an error and is not created: it would be an empty database.

    Raises (on entry):
        SettingsError: `database.url` names a database that does not exist or is not supported.
    Raises (ends the block):
        Fatal: it cannot be used.
    """
    with closing(open_database(settings.database.url, pool_size=1)) as database:
        _need_file(settings.database.url)
        try:
            yield database
        except DatabaseUnavailable as error:
            raise Fatal(f"the database cannot be used: {error}") from error


def _need_file(url: str) -> None:
    target = make_url(url)
    if target.get_backend_name() == "sqlite" and not Path(str(target.database)).exists():
        raise SettingsError(
            f"database.url: there is no file {target.database}; name the database of the service"
            " (of `make run` with simulated weather: sqlite:///var/simulator.db)"
        )
