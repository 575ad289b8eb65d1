"""Exponential backoff: how long to wait before the next try. Pure."""


def backoff_s(failures: int, base_s: float, cap_s: float) -> float:
    """Seconds: `base_s` after the first failure, doubled with every further one, up to `cap_s`."""
    return float(min(cap_s, base_s * 2 ** min(30, max(0, failures - 1))))
