"""Which API, which name, which host."""
