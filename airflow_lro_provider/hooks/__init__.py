"""Hooks: the only readers of Airflow connections."""
