"""What an operator sees of a process: its log, its health, its metrics and its traces."""
