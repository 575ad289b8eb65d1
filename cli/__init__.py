"""The command `raingauge`: a client of the API for a terminal, and the embedded mode under one name."""
