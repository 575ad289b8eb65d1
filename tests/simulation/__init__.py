"""The whole system under one seeded scheduler and virtual time, with faults everywhere, and an audit at the end.

The real worker, pool, caller, ledger, storage, relay and desk run; hand-off and provider are stand-ins that crash,
delay, duplicate, reorder and lose. All blocking work runs inline through the one seam, so a seed decides everything.
"""
