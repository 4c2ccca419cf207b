"""Run Tagmill in one process without servers, as `tagmill tag` does: `python -m benchmarks.support.embedded JOB`."""

import tempfile
from pathlib import Path

from sqlalchemy import text

from benchmarks.support.job import Job, Timed, main
from tagmill.settings import Settings
from worker.local.tag import local_settings, tag_locally


def measure(job: Job) -> Timed:
    """Tag a job in a new SQLite database; time from the first claim to the last commit."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.csv"
        manifest.write_text("image_key,uri\n" + "".join(f"{file},{file}\n" for file in job.files))
        settings = Settings(device=job.device, allowed_roots=tuple({Path(file).parent for file in job.files}))
        settings = local_settings(settings, f"sqlite:///{folder}/tagmill.db")
        done = tag_locally(
            settings, [str(manifest)], [Path(bundle) for bundle in job.bundles], 64, lambda progress: None
        )
        with done.engine.connect() as connection:
            spans = "SELECT min(started_at), max(finished_at), sum(cpu_seconds) FROM batch"
            first, last, cpu = connection.execute(text(spans)).one()
            images = connection.execute(text("SELECT count(*) FROM run_image WHERE status = 'tagged'")).scalar_one()
        done.engine.dispose()
        return Timed(images, last - first, cpu)


if __name__ == "__main__":
    main(measure)
