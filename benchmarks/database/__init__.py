"""Measure SQL: writes, views of a catalog, promotions and upgrades."""
