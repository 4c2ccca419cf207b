"""Tag a catalog every night with Airflow 3: submit it, wait without holding a worker slot, write the tags.

Copy this file into your DAGs folder, and install Tagmill there: `pip install 'tagmill[parquet,postgres]'`. The tasks
read TAGMILL_DATABASE_URL and TAGMILL_BROKER_URL as the commands do. The workers of Tagmill run elsewhere.

A task that Airflow tries again costs little: a second submission of the same catalog fetches nothing that has not
changed, and infers nothing twice.
"""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

#: a folder, a manifest, or a prefix of an object store
CATALOG = os.environ.get("CATALOG", "s3://shop/catalog.parquet")
#: a folder of Parquet files, or a prefix of an object store
TAGS = os.environ.get("TAGS", "s3://shop/tags/")


@dag(schedule="0 3 * * *", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def tag_catalog() -> None:
    """Tag the catalog, and write its tags as Parquet."""

    # The imports are in the tasks: Airflow reads this file again and again.
    @task(retries=3, retry_delay=timedelta(minutes=1))
    def submit_catalog() -> int:
        from producer import submit

        return submit(CATALOG, models=["clothing"], priority="backfill").run

    @task.sensor(mode="reschedule", poke_interval=10, timeout=6 * 3600)
    def tagged(run: int) -> bool:
        from producer import status

        return status(run).ended

    @task(retries=3)
    def write_tags(run: int) -> int:
        from producer import results

        return results(run).write(TAGS, format="parquet")

    run = submit_catalog()
    tagged(run) >> write_tags(run)


tag_catalog()
