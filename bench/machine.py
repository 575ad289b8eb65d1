"""What the figures were measured on: cores, versions, durability. For people who compare them."""

import os
import platform
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench.databases import MARIADB
from raingauge.clock import SystemClock
from raingauge.database import open_database
from raingauge.errors import RaingaugeError

_ASKED = ("version", "innodb_flush_log_at_trx_commit", "innodb_buffer_pool_size")


def facts(*, quick: bool) -> dict[str, Any]:
    """The machine and the day, and whether it was a quick run, whose figures are rough."""
    return {
        "at": f"{SystemClock().now():%Y-%m-%d %H:%M} UTC",
        "quick": quick,
        "cores": len(os.sched_getaffinity(0)),
        "processor": _line_of(Path("/proc/cpuinfo"), "model name"),
        "memory_mb": int(_line_of(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "database": _database(),
    }


def _line_of(path: Path, name: str) -> str:
    """What stands behind a name in a file of the kernel's; "0" where it is not there."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0")


def _database() -> dict[str, str]:
    """MariaDB's version and durability; empty when it is away."""
    database = open_database(MARIADB)
    statement = text("SHOW VARIABLES WHERE Variable_name IN :names")
    try:
        rows = database.read(lambda c: c.execute(statement, {"names": _ASKED}).all())
    except RaingaugeError:
        return {}
    finally:
        database.close()
    return {str(name): str(value) for name, value in rows}
