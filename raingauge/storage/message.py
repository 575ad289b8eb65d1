"""Statements on their way to the server: several in one message where the driver can.

Whoever holds a lock has others wait for every message and its answer, and for what is done in Python between them. So
a statement is compiled once for its database, and goes to PyMySQL as text, together with those beside it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Connection, Dialect, Engine, Executable, event
from sqlalchemy.exc import DBAPIError

Statement = tuple[Executable, Mapping[str, Any]]
"""A statement and its values by name. It is compiled once: so it is made once, not for every use."""

MOST: Final = 100
"""Statements in one message: servers take only so many bytes at once."""
_COMMIT: Final = ";COMMIT"
_ANSWERS: Final = "raingauge_answers"
_LIST: Final = re.compile(r"\(__\[POSTCOMPILE_\w+\]\)")
"""How SQLAlchemy writes a list whose length it does not know yet; the driver writes one with its parentheses."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says to one statement."""

    rows: Sequence[Sequence[Any]] = ()
    key: int = 0
    """Of a row that was inserted, where the database numbers them."""
    count: int = -1
    """Rows that were inserted or changed, where the database tells."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as the driver takes it."""

    text: str
    names: Sequence[str]
    """Its values, in the order of their marks."""
    makers: Sequence[Callable[[Any], Any] | None]
    """What makes of each value what is stored."""
    constants: Mapping[str, Any]
    readers: Sequence[Callable[[Any], Any] | None]
    """What makes of each column of an answer what is meant."""

    def values(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values as the driver takes them; lists as tuples, an empty one as one that nothing is in."""
        known = {**self.constants, **given}
        return tuple(map(_made, self.makers, map(known.__getitem__, self.names)))

    def read(self, row: Sequence[Any]) -> Sequence[Any]:
        """A row of the answer."""
        return [value if read is None else read(value) for read, value in zip(self.readers, row, strict=True)]


def ask(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """The rows that a statement brings."""
    [answer] = send(connection, [(statement, values)])
    return answer.rows


def send(connection: Connection, statements: Sequence[Statement]) -> list[Answer]:
    """Run the statements, in their order, and answer what each of them brought."""
    return _send(connection, statements, "")


def finish(connection: Connection, statements: Sequence[Statement]) -> list[Answer]:
    """The same with the last ones of a transaction: its COMMIT goes along, if the driver can. Nothing may follow."""
    return _send(connection, statements, _COMMIT)


def _send(connection: Connection, statements: Sequence[Statement], end: str) -> list[Answer]:
    if connection.dialect.driver != "pymysql":
        return [_one_by_one(connection, *statement) for statement in statements]
    answers: list[Answer] = []
    for start in range(0, len(statements), MOST):
        is_last = start + MOST >= len(statements)
        answers += _together(connection, statements[start : start + MOST], end if is_last else "")
    return answers


def _together(connection: Connection, statements: Sequence[Statement], end: str) -> list[Answer]:
    cursor: Any = connection.connection.cursor()
    all_prepared = [prepare(connection.dialect, statement, tuple(values)) for statement, values in statements]
    text = ";".join(
        cursor.mogrify(prepared.text, prepared.values(values))
        for prepared, (_, values) in zip(all_prepared, statements, strict=True)
    )
    answers = say(connection, text + end, ";".join(prepared.text for prepared in all_prepared) + end)
    return [
        replace(answer, rows=[prepared.read(row) for row in answer.rows]) if answer.rows else answer
        for prepared, answer in zip(all_prepared, answers, strict=False)
    ]


def say(connection: Connection, message: str, meaning: str) -> list[Answer]:
    """Send a message; an error shows what it means, without the values."""
    answers: list[Answer] = []
    try:
        connection.exec_driver_sql(message, execution_options={_ANSWERS: answers})
    except DBAPIError as error:
        error.statement = meaning
        raise
    return answers


def _one_by_one(connection: Connection, statement: Executable, values: Mapping[str, Any]) -> Answer:
    result = connection.execute(statement, values)
    if result.is_insert:
        key = result.inserted_primary_key
        return Answer(key=key[0] if key else 0, count=result.rowcount)
    return Answer(result.all()) if result.returns_rows else Answer(count=result.rowcount)


def take_messages(engine: Engine) -> None:
    """Have an engine for PyMySQL take all answers to a message, and send no COMMIT after one that went along.

    The server says in its answer to a SELECT, too, that a transaction is open, but the driver does not keep it.
    """
    commit = engine.dialect.do_commit
    committed = WeakSet[Any]()
    """Connections on which a COMMIT that went along was the last thing."""

    @event.listens_for(engine, "do_execute")
    def execute(cursor: Any, message: str, _values: Any, context: Any) -> bool:
        committed.discard(cursor.connection)
        answers = context.execution_options.get(_ANSWERS)
        if answers is None:
            return False
        cursor.execute(message)
        answers.append(Answer(cursor.fetchall(), cursor.lastrowid, cursor.rowcount))
        while cursor.nextset():
            answers.append(Answer(cursor.fetchall(), cursor.lastrowid, cursor.rowcount))
        if message.endswith(_COMMIT):
            committed.add(cursor.connection)
        return True

    @event.listens_for(engine, "do_executemany")
    def execute_many(cursor: Any, _statement: str, _values: Any, _context: Any) -> None:
        committed.discard(cursor.connection)

    def do_commit(connection: Any) -> None:
        if connection.dbapi_connection not in committed:
            commit(connection)

    engine.dialect.do_commit = do_commit  # type: ignore[method-assign, assignment]


@lru_cache(maxsize=256)
def prepare(dialect: Dialect, statement: Executable, names: tuple[str, ...]) -> Prepared:
    """Compile a statement whose values have these names."""
    compiled: Any = statement.compile(dialect=dialect, column_keys=names)  # type: ignore[attr-defined]
    order: Sequence[str] = compiled.positiontup
    kinds = [compiled.binds[name].type.dialect_impl(dialect) for name in order]
    return Prepared(
        text=_LIST.sub("%s", str(compiled)),
        names=order,
        makers=[kind.bind_processor(dialect) for kind in kinds],
        constants={name: bind.value for name, bind in compiled.binds.items() if not bind.required},
        readers=_readers(dialect, statement),
    )


def _readers(dialect: Dialect, statement: Executable) -> Sequence[Callable[[Any], Any] | None]:
    columns: Iterable[Any] = getattr(statement, "selected_columns", ())
    return [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]


def _made(make: Callable[[Any], Any] | None, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value if make is None else map(make, value)) or (None,)
    return value if make is None else make(value)
