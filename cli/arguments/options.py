"""Options that many commands have. Like `cli.app`, it must stay quick to import."""

from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8000"

Json = Annotated[bool, typer.Option("--json", help="Print the API's JSON as it is.")]
Url = Annotated[str, typer.Option("--url", envvar="RAINGAUGE_URL", metavar="URL", help="The address of the API.")]
