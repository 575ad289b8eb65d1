"""The producer: accepts collections, publishes their batches and answers how far they are. It never calls the provider."""
