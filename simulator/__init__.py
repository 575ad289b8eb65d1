"""A stand-in for the weather provider that speaks HTTP: the same paths and bodies, a quota, and faults on demand."""
