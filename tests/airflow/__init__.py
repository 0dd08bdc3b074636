"""Tests that need Airflow, but none of its processes."""
