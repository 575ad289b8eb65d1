"""The scenarios. Each takes how large it is to be, and gives what it found."""
