"""Why something went wrong, in one line."""


def reason_of(error: BaseException) -> str:
    """Return the first line of an error, of the driver's own where SQLAlchemy wraps one; its type where it is mute."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
