"""The hand-off between producer and consumer: one port and two adapters, in-process and Kafka."""
