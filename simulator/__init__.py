"""A stand-in for the weather provider that speaks HTTP: the same paths and bodies, its own quota, faults on demand."""
