"""Results for tests of the formats: an image that a classifier and a segmenter tagged, and one that failed."""

from producer.output.extra_columns import ExtraColumn, Kind
from producer.output.image_result import ImageResult
from support.image_fixtures import square
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import Model
from tagmill.tasks.masks import encode_masks

SPEC = PreprocessSpec(64, 64)
DETAILS = {"preprocess": SPEC.to_dict(), "background": "background"}
SHIRTS = Model(1, "1" * 64, "shirts", 3, "classify", ("red", "blue"), DETAILS, {}, "candidate")
MASKS = Model(2, "2" * 64, "masks", 1, "segment", ("background", "hat"), DETAILS, {}, "candidate")
MODELS = (("shirts", SHIRTS), ("masks", MASKS))
(MASK,) = encode_masks(square(16, 8, 32, 40), (0.5, 0.75), MASKS.labels, "background", SPEC, 60, 90)
TAGGED = ImageResult(
    *(0, "a", "/a.jpg", "tagged", None, None, "3" * 64, 60, 90, {"shirts": [("red", 0.75), ("blue", 0.25)]}),
    *({"masks": [MASK]}, {"shirts": SHIRTS, "masks": MASKS}, 7, '{"brand":"\uc0c1\uc810","price":9.5,"label":"=1"}'),
)
FAILED = ImageResult(1, "b", "/b.jpg", "failed", "not_found", "-no file", None, None, None, run_id=7)
EXTRA = (ExtraColumn("brand"), ExtraColumn("price", Kind.NUMBER), ExtraColumn("label"))
