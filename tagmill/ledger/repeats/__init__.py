"""Entries whose uri an earlier entry of their run has, too: they get its outcome, and nothing is fetched for them."""
