"""Finding cities by name or place, in one SQLite file that is made once and only read afterwards.

Shared by the producer and the command, so it imports neither a web framework nor SQLAlchemy. The provider also knows
districts and hamlets: an id that is not in the file is never refused because of that. Names, coordinates and
populations come from GeoNames (https://www.geonames.org), licensed under CC BY 4.0.
"""
