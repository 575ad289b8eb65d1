"""Schedules: collections that are started again and again."""
