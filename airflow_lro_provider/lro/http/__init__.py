"""Bounded, redacted I/O: requests and responses, sessions, bodies, JSON."""
