"""Triggers: wait for long-running operations without a worker."""
