"""Fewer bits: float16 and int8, and what they cost."""
