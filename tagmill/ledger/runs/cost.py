"""What a run cost: its core-hours and GPU-hours, at the prices of the settings."""

from dataclasses import dataclass
from typing import Any

from tagmill.ledger.runs.progress import RunProgress
from tagmill.settings import Settings

HOUR = 3600.0


@dataclass(frozen=True)
class RunCost:
    """What a run took, and its price. Prices are in the currency of the settings."""

    #: images with an outcome
    images: int
    #: of all cores together
    cpu_seconds: float
    #: time of inference calls on GPUs
    gpu_seconds: float
    #: images with an outcome per second, from the first claim to the last result or until now
    overall_images_per_second: float
    #: of the whole run; None without a price
    price: float | None

    @property
    def price_per_1000_images(self) -> float | None:
        """The price of 1,000 images with an outcome; None without a price or without such an image."""
        return None if self.price is None or not self.images else 1000 * self.price / self.images

    def to_json(self) -> dict[str, Any]:
        """Return JSON values of what `RunProgress.to_json` lacks."""
        return {
            "overall_images_per_second": round(self.overall_images_per_second, 1),
            "price": self.price,
            "price_per_1000_images": self.price_per_1000_images,
        }


def run_cost(progress: RunProgress, settings: Settings) -> RunCost:
    """Return the cost of a run.

    The price of a run that took GPU time is None unless both prices are set: half of it would mislead.
    """
    images = progress.tagged + progress.failed
    rate = images / progress.seconds if progress.seconds else 0.0
    return RunCost(images, progress.cpu_seconds, progress.gpu_seconds, rate, _price(progress, settings))


def _price(progress: RunProgress, settings: Settings) -> float | None:
    price = 0.0
    hours = ((progress.cpu_seconds, settings.price_cpu_hour), (progress.gpu_seconds, settings.price_gpu_hour))
    for seconds, of_an_hour in hours:
        if of_an_hour is None:
            if seconds:
                return None
            continue
        price += seconds / HOUR * of_an_hour
    return None if settings.price_cpu_hour is None and settings.price_gpu_hour is None else price
