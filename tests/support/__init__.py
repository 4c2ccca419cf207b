"""Fixtures that the tests share: real servers, processes, images and bundles."""
