"""Every part of Airflow that is not public, or that differs between versions."""
