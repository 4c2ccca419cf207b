"""The measures that a rule may limit: their names, and where SQL has them."""

from typing import NamedTuple


class Measure(NamedTuple):
    """A number that is known of a picture."""

    #: an expression over the columns of `catalog_pictures`
    sql: str
    #: for errors and documents
    meaning: str


#: compares the pictures of one product; its SQL is in `tagmill.db.views.pictures`
PRODUCT_COPIES = "product_copies"
MEASURES = {
    "long_side": Measure("CASE WHEN width > height THEN width ELSE height END", "pixels of the longer side"),
    "short_side": Measure("CASE WHEN width > height THEN height ELSE width END", "pixels of the shorter side"),
    "megapixels": Measure("width * 1.0 * height / 1000000", "millions of pixels"),
    "megabytes": Measure("bytes / 1000000.0", "size of the file, in millions of bytes"),
    "aspect": Measure(
        "CASE WHEN width > height THEN width * 1.0 / height ELSE height * 1.0 / width END",
        "longer side divided by the shorter one",
    ),
    "white_border": Measure("white_border", "share of the pixels along the edge that are white"),
    "product_extent": Measure("product_extent", "share of the width or height, whichever is more, of the product"),
    "product_area": Measure("product_area", "share of the picture that the product's pixels take"),
    "sharpness": Measure("sharpness", "standard deviation of the Laplacian at 256 pixels"),
    "brightness": Measure("brightness", "brightness of the lightest pixels, 0 to 1"),
    "contrast": Measure("contrast", "difference of the lightest and darkest pixels, 0 to 1"),
    "frame": Measure("frame", "width of a frame around the picture, as a share of its shorter side"),
    "text_share": Measure("text_share", "share of the picture that text takes"),
    "text_boxes": Measure("text_boxes", "number of pieces of text"),
    PRODUCT_COPIES: Measure("", "other keys of the same product that show the same picture"),
}
