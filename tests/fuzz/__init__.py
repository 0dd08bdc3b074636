"""Spoiled names, answers and records."""
