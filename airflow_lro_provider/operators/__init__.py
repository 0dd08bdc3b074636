"""Operators: run and cancel long-running operations."""
