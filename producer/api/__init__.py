"""The producer's front doors, one module each. They speak HTTP and know no SQL."""
