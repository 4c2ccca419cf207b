"""Pictures whose right answer is their colour, for the bundles of `bundles.py`."""

from pathlib import Path

from PIL import Image

RGB = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}


def write_picture(path: Path, colour: str, size: tuple[int, int] = (60, 40), shade: int = 0) -> Path:
    """Write one picture of a plain colour; another `shade` gives other bytes of the same colour."""
    red, green, blue = RGB[colour]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (red, green + shade % 12, blue + shade // 12 % 12)).save(path, quality=95)
    return path


def write_folder(folder: Path, images: int) -> dict[str, str]:
    """Write distinct pictures in turn red, green and blue; return image_key -> colour."""
    truth = {}
    for number in range(images):
        colour = list(RGB)[number % 3]
        key = f"{number:05d}.png"
        write_picture(folder / key, colour, size=(20 + number // 432, 20), shade=number // 3)
        truth[key] = colour
    return truth
