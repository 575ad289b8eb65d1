"""The endpoints of collections: one of them, lists, files and the stream of changes."""
