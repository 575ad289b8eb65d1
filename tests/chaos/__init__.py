"""Real faults on real parts: killed, frozen, cut off; and one audit of what is left. `make chaos`."""
