"""Read the bytes of an image from an object store or a file system of another machine."""
