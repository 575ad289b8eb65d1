"""The producer: accepts collections, publishes their batches, tells how far they are. It never calls the provider."""
