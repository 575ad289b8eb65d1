"""Scenarios of readings over all collections: summaries, histories, pruning."""
