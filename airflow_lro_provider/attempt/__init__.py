"""One try of a task, on the worker: its guard, its record, its one way out."""
