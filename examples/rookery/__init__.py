"""A small client library for Rookery, written from docs/protocol.md alone. See ../client.py."""
