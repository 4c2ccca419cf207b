"""Groups of images that show the same: the same bytes, the same picture in other bytes, look-alikes."""
