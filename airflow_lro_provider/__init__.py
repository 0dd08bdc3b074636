"""Apache Airflow provider for Google long-running operations (``google.longrunning.Operations``)."""

__version__ = "0.2.0"
