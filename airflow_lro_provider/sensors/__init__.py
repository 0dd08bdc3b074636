"""Sensors: wait for long-running operations."""
