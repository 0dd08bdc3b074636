"""Whose is this operation now? The evidence, and the tables that decide."""
