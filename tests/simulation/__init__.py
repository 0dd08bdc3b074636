"""The package in a simulated world: simulated time, processes that die at any moment, an Airflow, and a service."""
