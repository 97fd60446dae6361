"""PostgreSQL as sites have it."""
import time

import psycopg2

from harness import cluster
from harness.wait import PATIENCE


class Cluster(cluster.Cluster):
    """One that may take its time to let a test in: the machine has other things to do."""

    def connect(self, database, user="postgres"):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return super().connect(database, user)
            except psycopg2.OperationalError as error:
                if "timeout expired" not in str(error) or time.monotonic() > deadline:
                    raise
