"""The consumer: takes batches, calls the provider within its quota, stores what it answers. It accepts no collections."""
