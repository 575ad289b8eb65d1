"""Contracts of older services, one module each. They translate to the use cases and have no engine of their own."""
