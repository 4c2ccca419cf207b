"""The error of an image that has no preview."""


class UnreadableError(Exception):
    """No thumbnail can be made; the message says why, in a few words, without the location."""
