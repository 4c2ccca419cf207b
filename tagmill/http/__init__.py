"""Connections that a URL of a catalog may make: to public addresses and those that are allowed, in time."""
