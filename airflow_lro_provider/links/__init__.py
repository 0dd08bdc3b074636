"""Links from a task to the Google console."""
