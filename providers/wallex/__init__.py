"""Wallex: client, wire schemas, and the pure mapping between them and the vocabulary."""
