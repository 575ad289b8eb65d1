"""A network that fails: a door to a server that can be shut, and whose connections break."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 65_536
LOOK_S = 0.05


class Door:
    """Passes TCP connections on to a server. Shut, it takes bytes and connections, and nothing ever comes back."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._shut = threading.Event()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self._begin(self._accept)

    def shut(self) -> None:
        """Let nothing through from now on."""
        self._shut.set()

    def open(self) -> None:
        """Let everything through again, what came in the meantime too."""
        self._shut.clear()

    def cut(self) -> None:
        """Break every connection; new ones get through."""
        self.open()
        for peer in self._peers:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, and all connections."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _begin(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if self._readable(self._listener):
                client, _ = self._listener.accept()
                self._begin(self._pass_on, client)

    def _pass_on(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            peers = {client: server, server: client}
            self._peers += peers
            while not self._ended.is_set():
                for peer in self._readable(client, server):
                    if not (chunk := peer.recv(CHUNK)):
                        return
                    peers[peer].sendall(chunk)

    def _readable(self, *sockets: socket.socket) -> list[socket.socket]:
        if self._shut.is_set():
            self._ended.wait(LOOK_S)
            return []
        return select.select(sockets, (), (), LOOK_S)[0]


@contextmanager
def door(host: str, port: int) -> Iterator[Door]:
    """A door to a server, open."""
    opened = Door(host, port)
    try:
        yield opened
    finally:
        opened.close()
