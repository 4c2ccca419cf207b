"""Tag a catalog every night with Dagster: an asset of tags, with its counts as metadata.

Run `dagster dev -f dagster_job.py` where `pip install 'tagmill[parquet,postgres]' dagster dagster-webserver` was run.
The asset reads TAGMILL_DATABASE_URL and TAGMILL_BROKER_URL as the commands do. The workers of Tagmill run elsewhere.
"""

import os

from dagster import AssetExecutionContext, Definitions, Failure, MaterializeResult, ScheduleDefinition, asset

from producer import results, submit, wait

#: a folder, a manifest, or a prefix of an object store
CATALOG = os.environ.get("CATALOG", "s3://shop/catalog.parquet")
#: a folder of Parquet files, or a prefix of an object store
TAGS = os.environ.get("TAGS", "s3://shop/tags/")


@asset
def catalog_tags(context: AssetExecutionContext) -> MaterializeResult:
    """Labels and masks of every image of the catalog, as Parquet."""
    run = submit(CATALOG, models=["clothing"]).run
    context.log.info("run %d is queued", run)
    progress = wait(run)
    if progress.tagged == 0:
        raise Failure(f"run {run}: no image was tagged; see `tagmill run status {run}`")
    rows = results(run).write(TAGS, format="parquet")
    return MaterializeResult(metadata={"run": run, "images": rows, "failed": progress.failed, "tags": TAGS})


definitions = Definitions(
    assets=[catalog_tags],
    schedules=[ScheduleDefinition(name="nightly", target=[catalog_tags], cron_schedule="0 3 * * *")],
)
