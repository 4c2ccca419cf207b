"""The run ledger: every write to `run`, `batch` and `run_image`, and the progress of a run.

Redis only carries hints. Celery on Redis can lose a message, deliver it twice, or deliver it long after its worker
died. The ledger decides who may work on a batch and whose results count.
"""
