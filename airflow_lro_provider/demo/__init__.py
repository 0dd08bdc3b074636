"""A real Airflow on this machine, for the demo command and the end-to-end tests."""
