"""librdkafka's mock cluster: a Kafka broker at the level of the protocol, in this process, without Java.

confluent_kafka can start one but does not expose its controls, so they are called in its bundled library
(`rdkafka_mock.h`). It stores messages in memory, lacks CreateTopics and DescribeConfigs, and handles two members of one
group badly.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Final, Self

import confluent_kafka

PRODUCE: Final = 0
FIND_COORDINATOR: Final = 10
OFFSET_COMMIT: Final = 8
HEARTBEAT: Final = 12

_PRODUCER: Final = 0
_POINTER, _TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_FUNCTIONS: Final = {
    "rd_kafka_conf_new": (_POINTER, ()),
    "rd_kafka_conf_set": (_INT, (_POINTER, _TEXT, _TEXT, _TEXT, ctypes.c_size_t)),
    "rd_kafka_new": (_POINTER, (_INT, _POINTER, _TEXT, ctypes.c_size_t)),
    "rd_kafka_destroy": (None, (_POINTER,)),
    "rd_kafka_handle_mock_cluster": (_POINTER, (_POINTER,)),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, (_POINTER,)),
    "rd_kafka_mock_topic_create": (_INT, (_POINTER, _TEXT, _INT, _INT)),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (_POINTER, ctypes.c_int32)),
    "rd_kafka_mock_broker_set_down": (_INT, (_POINTER, ctypes.c_int32)),
    "rd_kafka_mock_broker_set_up": (_INT, (_POINTER, ctypes.c_int32)),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        (_POINTER, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(_INT)),
    ),
}


@cache
def _library() -> ctypes.CDLL:
    home = Path(confluent_kafka.__file__).parent
    beside = (*home.parent.glob("confluent_kafka.libs/librdkafka*"), *home.glob(".dylibs/librdkafka*"))  # Linux, macOS
    library = ctypes.CDLL(str(beside[0]))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """One broker, to be entered."""

    def __enter__(self) -> Self:
        library, said = _library(), ctypes.create_string_buffer(512)
        settings = library.rd_kafka_conf_new()
        for name, value in ((b"test.mock.num.brokers", b"1"), (b"log_level", b"0")):
            assert library.rd_kafka_conf_set(settings, name, value, said, len(said)) == 0, said.value
        self._client = library.rd_kafka_new(_PRODUCER, settings, said, len(said))
        assert self._client, said.value
        self._cluster = library.rd_kafka_handle_mock_cluster(self._client)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.server: str = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        return self

    def __exit__(self, *_: object) -> None:
        _library().rd_kafka_destroy(self._client)

    def make_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic."""
        assert _library().rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def answer(self, request: int, *errors: int) -> None:
        """Answer the next requests of this kind with these error codes, one each."""
        codes = (_INT * len(errors))(*errors)
        _library().rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), codes)

    def go_down(self) -> None:
        """Drop all connections and refuse new ones."""
        assert _library().rd_kafka_mock_broker_set_down(self._cluster, 1) == 0

    def come_up(self) -> None:
        """Accept connections again."""
        assert _library().rd_kafka_mock_broker_set_up(self._cluster, 1) == 0
