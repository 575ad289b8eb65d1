"""The producer's endpoints, a module for each subject. They speak HTTP and know no SQL."""
