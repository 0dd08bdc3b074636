"""Broken and hostile servers."""
