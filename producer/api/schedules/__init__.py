"""The endpoints of schedules."""
