"""Spoiled names, responses and records."""
