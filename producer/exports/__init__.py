"""Exports: the readings of a collection as a file, part by part. They speak no HTTP."""
