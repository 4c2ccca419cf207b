"""Convert the result of a batch to rows, plain tuples in the order in which they are written."""

from operator import attrgetter

from tagmill.outcomes import ImageStatus, printable
from tagmill.records import BatchResult, InferenceRow, Outcome

#: columns of the rows of each table
IMAGE = ("sha256", "width", "height", "format", "bytes")
FILE = ("identity", "sha256")
INFERENCE_KEY = ("image_sha256", "model_sha256")
INFERENCE = (*INFERENCE_KEY, "batch_id", "provider", "worker", "created_at")
LABEL = ("inference_id", "rank", "label", "score")
_MASK_FIELDS = ("label", "rle", "height", "width", "area_share")
MASK = ("inference_id", *_MASK_FIELDS, "box_left", "box_top", "box_right", "box_bottom", "score")
OUTCOME = ("status", "sha256", "error_code", "error_detail")

Row = tuple[object, ...]

_image_values = attrgetter(*IMAGE)
_file_values = attrgetter(*FILE)
_mask_values = attrgetter(*_MASK_FIELDS)


class ResultRows:
    """The rows of a result. Rows that other batches may also write are sorted.

    Two transactions that write the same rows then wait for each other instead of deadlocking.
    """

    def __init__(self, run_id: int, batch_id: int, result: BatchResult, worker: str, now: float) -> None:
        """Convert `result`; `now` is in Unix seconds by the database's clock."""
        self.images: list[Row] = sorted(map(_image_values, result.images))
        self.files: list[Row] = sorted(map(_file_values, result.files))
        self.outcomes: list[Row] = [_outcome(outcome, run_id) for outcome in result.outcomes]
        self._by_pair = {(row.image_sha256, row.model_sha256): row for row in result.inferences}
        self.inferences: list[Row] = [
            (*pair, batch_id, self._by_pair[pair].provider, worker, now) for pair in sorted(self._by_pair)
        ]

    def of_new(self, new: dict[tuple[str, ...], int]) -> tuple[list[Row], list[Row]]:
        """Return the rows of labels and of masks of the new inferences; `new` maps their keys to their ids."""
        labels: list[Row] = []
        masks: list[Row] = []
        for pair, row_id in new.items():
            row: InferenceRow = self._by_pair[pair[0], pair[1]]
            labels += [(row_id, rank, *found) for rank, found in enumerate(row.labels, 1)]
            masks += [(row_id, *_mask_values(found), *found.box, found.score) for found in row.masks]
        return labels, masks


def _outcome(outcome: Outcome, run_id: int) -> Row:
    status = ImageStatus.FAILED if outcome.error_code else ImageStatus.TAGGED
    # A detail may quote bytes of the image: one character that SQL refuses would fail the whole batch.
    detail = None if outcome.error_detail is None else printable(outcome.error_detail)
    return (status, outcome.sha256, outcome.error_code, detail, run_id, outcome.position)
