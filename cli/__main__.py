"""`raingauge`, and `python -m cli`. It imports the rest late, so that Ctrl-C is clean from the first moment."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli.session import Session

INTERRUPTED = 130
USAGE = 2


def main(arguments: Sequence[str] | None = None, session: "Session | None" = None) -> int:
    """Run one command and return its exit status. `arguments`: those of the process when left out."""
    try:
        from cli.dispatch import perform  # noqa: PLC0415  # typer takes a while to import
        from cli.session import Session  # noqa: PLC0415

        return perform(sys.argv[1:] if arguments is None else arguments, session or Session())
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        sys.stderr.write(f"raingauge: there is no package {error.name}: install raingauge[cli]\n")
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
