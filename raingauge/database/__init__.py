"""One way to the database, whatever it is: engines, transactions, the database's clock, the causes of its errors."""

from raingauge.database.causes import is_duplicate, is_outage, is_read_only, is_refusal, lacks_schema, may_run_again
from raingauge.database.database import Database, DatabaseClock, open_database, server_time
from raingauge.database.engines import DRIVERS

__all__ = [
    "DRIVERS",
    "Database",
    "DatabaseClock",
    "is_duplicate",
    "is_outage",
    "is_read_only",
    "is_refusal",
    "lacks_schema",
    "may_run_again",
    "open_database",
    "server_time",
]
