"""The consumer: takes batches, calls the provider within its quota, stores the answers. It accepts no collections."""
