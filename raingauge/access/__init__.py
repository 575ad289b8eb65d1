"""Tokens: who may use the API, and for what. Their form, and what is stored of them."""
