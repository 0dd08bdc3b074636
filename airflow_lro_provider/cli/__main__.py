"""``python -m airflow_lro_provider.cli``."""

import sys

from airflow_lro_provider.cli import main

sys.exit(main())
