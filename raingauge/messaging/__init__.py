"""The hand-off between producer and consumer: one port, with adapters for one process, Kafka and (to publish) files."""
