"""Embedded mode: producer, consumer, simulator and the in-process hand-off in one process."""
