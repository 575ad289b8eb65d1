"""Ask a Kafka broker whether it really works; exit 0 if so, else say why on stderr and exit 1.

Speaks the wire protocol with the standard library alone: a check with Kafka's own tools would start a Java machine,
seconds each time, and a client library may not be installed yet. Asks once: waiting and repeating is the caller's.

    python3 answers.py PORT[,PORT...] [--create]

Each PORT on 127.0.0.1 must list itself in its metadata. With --create a topic is created and deleted as well.
"""

from __future__ import annotations

import socket
import struct
import sys

HOST = "127.0.0.1"
TIMEOUT_S = 5.0
# One fixed name: what a killed check leaves behind, the next one removes.
TOPIC = "raingauge-services-check"
NO_ERROR, TOPIC_ALREADY_EXISTS = 0, 36
# Keys and versions from https://kafka.apache.org/protocol; the oldest layouts that Kafka 4 still takes.
METADATA = (3, 1)
CREATE_TOPICS = (19, 2)
DELETE_TOPICS = (20, 1)


class AnswerError(Exception):
    """The broker answered, but not as a working one does."""


class Reader:
    """Reads Kafka's primitive types from a response, in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        chunk = self._data[self._at : self._at + size]
        if len(chunk) < size:
            raise AnswerError("the response is cut short")
        self._at += size
        return chunk

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def string(self) -> str:
        return self.take(max(self.int16(), 0)).decode()


def text(value: str) -> bytes:
    """A string as Kafka writes it: its length in two bytes, then UTF-8."""
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise AnswerError("the broker closed the connection")
        data += chunk
    return data


def ask(connection: socket.socket, api: tuple[int, int], body: bytes) -> Reader:
    key, version = api
    request = struct.pack(">hhi", key, version, 1) + text("raingauge-services") + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    size = int.from_bytes(read_exactly(connection, 4), "big")
    response = Reader(read_exactly(connection, size))
    response.int32()  # the correlation id: one request at a time, so it can only be ours
    return response


def check_metadata(connection: socket.socket, port: int) -> None:
    response = ask(connection, METADATA, struct.pack(">i", 0))
    brokers = []
    for _ in range(response.int32()):
        response.int32()
        brokers.append((response.string(), response.int32()))
        response.string()
    if (HOST, port) not in brokers:
        raise AnswerError(f"the metadata of port {port} lists {brokers}")


def check_topic(connection: socket.socket) -> None:
    timeout_ms = int(TIMEOUT_S * 1000)
    partitions, replicas, no_assignments, no_configs = 1, 1, 0, 0
    topic = text(TOPIC) + struct.pack(">ihii", partitions, replicas, no_assignments, no_configs)
    created = ask(connection, CREATE_TOPICS, struct.pack(">i", 1) + topic + struct.pack(">i?", timeout_ms, False))
    expect(created, "created", NO_ERROR, TOPIC_ALREADY_EXISTS)
    deleted = ask(connection, DELETE_TOPICS, struct.pack(">i", 1) + text(TOPIC) + struct.pack(">i", timeout_ms))
    expect(deleted, "deleted", NO_ERROR)


def expect(response: Reader, done: str, *codes: int) -> None:
    response.int32()  # throttle time
    response.int32()  # number of topics: one
    response.string()
    code = response.int16()
    if code not in codes:
        raise AnswerError(f"a topic cannot be {done}: error code {code}")


def main(arguments: list[str]) -> None:
    ports = [int(port) for port in arguments[0].split(",")]
    try:
        for port in ports:
            with socket.create_connection((HOST, port), TIMEOUT_S) as connection:
                check_metadata(connection, port)
        if "--create" in arguments:
            with socket.create_connection((HOST, ports[0]), TIMEOUT_S) as connection:
                check_topic(connection)
    except (OSError, AnswerError) as error:
        sys.exit(f"Kafka does not answer: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
