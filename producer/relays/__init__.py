"""The relays: each publishes what its outbox holds."""
