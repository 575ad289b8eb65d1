"""The schema's history; one owner, run by `python -m alembic upgrade head`."""
