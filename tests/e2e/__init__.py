"""The end-to-end tests, and the commands for their long forms."""
