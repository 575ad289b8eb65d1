"""The hand-off between producer and consumer: one port, two adapters (in-process and Kafka)."""
