"""The test bed: a real Airflow, a server that counts, and the judges of what both saw."""
