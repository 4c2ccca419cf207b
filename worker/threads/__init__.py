"""Thread pools whose tasks can be abandoned."""
