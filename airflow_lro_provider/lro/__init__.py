"""The core: operations, their names, their protocol and their clients. No Airflow in here."""
