"""Loading the settings, with one line for whatever is wrong with them."""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel, ValidationError

from raingauge.access.tokens import looks_like_token
from raingauge.errors import SettingsError
from raingauge.settings.secrets import shown_file
from raingauge.settings.sections import CONFIG_VARIABLE, PREFIX, TOKEN_VARIABLES, URL_VARIABLE, Settings, config_file

NAME: Final = re.compile(r"[A-Za-z0-9_.]+")
"""What looks like the name of a setting: anything else may be a value in the wrong place."""
LISTS: Final = frozenset({"schedules"})
"""What stands where a section stands, and has no keys: the environment has it as JSON."""
SECTIONS: Final = frozenset(Settings.model_fields) - LISTS


def load_settings() -> Settings:
    """Read the configuration file and the environment. Names on Kafka have their prefix.

    Raises:
        SettingsError: a name is unknown, a value is invalid, or a file cannot be read; the message names it.
    """
    file = config_file()
    if file.is_file():
        _refuse_unreadable(file)
    elif CONFIG_VARIABLE in os.environ:
        raise SettingsError(f"{CONFIG_VARIABLE}: there is no file {shown_file(os.environ[CONFIG_VARIABLE])}")
    _refuse_unknown_variables()
    try:
        return Settings().with_prefix()
    except ValidationError as error:
        raise SettingsError(f"settings: {_describe(error)}") from None
    except ValueError as error:
        raise SettingsError(f"settings: {error}") from None


def _refuse_unreadable(file: Path) -> None:
    """Report in one line what YAML would report in a traceback."""
    try:
        with file.open("rb") as stream:
            sections = yaml.safe_load(stream)
    except OSError as error:
        raise SettingsError(f"settings: {file}: {error.strerror}") from None
    except yaml.YAMLError as error:  # its message quotes the text
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SettingsError(f"settings: {file}: {where}it is not valid YAML") from None
    if sections is not None and not (isinstance(sections, dict) and all(isinstance(name, str) for name in sections)):
        raise SettingsError(f"settings: {file}: expected sections, each with its keys")


def _refuse_unknown_variables() -> None:
    """Refuse variables with an unknown section, which pydantic-settings would ignore."""
    for variable in sorted(os.environ.keys() - {CONFIG_VARIABLE, URL_VARIABLE, *TOKEN_VARIABLES}):
        name = variable.upper().removeprefix(PREFIX)
        section, _, key = name.partition("__")
        is_known = bool(key) if section.lower() in SECTIONS else name.lower() in LISTS
        if variable.upper().startswith(PREFIX) and not is_known:
            names = [known.upper().replace(".", "__") for known in _names(Settings) if "." in known]
            hint = _hint(name, names, PREFIX) or "; expected RAINGAUGE_<SECTION>__<KEY>"
            raise SettingsError(f"settings: {variable} names no setting{hint}")


def _describe(error: ValidationError) -> str:
    """Describe invalid settings in one line, without their values: they may be secrets."""
    described = []
    for found in error.errors():
        name, message = ".".join(map(str, found["loc"])), found["msg"]
        if found["type"] == "extra_forbidden" and not _is_name(name):
            name, message = ".".join(map(str, found["loc"][:-1])), "an unknown setting with an invalid name"
            name = name or "settings"
        elif found["type"] == "extra_forbidden":
            section = "".join(name.rpartition(".")[:2])
            known = [each.removeprefix(section) for each in _names(Settings) if each.startswith(section)]
            message = f"unknown setting{_hint(name.removeprefix(section), known, section)}"
        described.append(f"{name}: {message}")
    return "; ".join(described)


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None and not any(map(looks_like_token, name.split(".")))


def _hint(name: str, known: list[str], prefix: str) -> str:
    """Suggest the known name nearest to a misspelt one, with its prefix; empty if none is near."""
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{nearest[0]}?" if nearest else ""


def _names(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all sections and settings."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{prefix}{name}.")
