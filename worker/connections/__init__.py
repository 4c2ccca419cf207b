"""Connections to the database and the broker that survive an outage."""
