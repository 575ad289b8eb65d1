"""The database: one schema, and the statements that several rooms share. Nothing here opens a connection by itself."""
