"""Previews of images: their bytes, thumbnails and outlines."""
