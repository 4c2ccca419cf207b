"""Write results to numbered files of a folder."""

from itertools import chain, islice

from producer.output.selection.result_set import ResultSet
from producer.output.writers.base import FileWriter, Folder, WriteOptions


def write_shards(
    about: ResultSet, write: FileWriter, folder: Folder, name: str, images: int | None, options: WriteOptions
) -> int:
    """Write files of at most so many images, at least one file; return the number of images written.

    `name` is the path of a file in the folder, with `{number}` in place of its number of five digits.
    """
    results, count, number = iter(about), 0, 0
    ahead = list(islice(results, 1))
    while ahead or number == 0:
        with folder.open(name.format(number=f"{number:05}")) as out:
            count += write(islice(chain(ahead, results), images), about, out, options)
        ahead = list(islice(results, 1))
        number += 1
    return count
