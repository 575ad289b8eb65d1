"""The endpoints of readings over all collections: summaries, the newest of each city, the history of cities."""
