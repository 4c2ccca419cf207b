"""The SQL of the views that people read: names and hashes as text, one row per label, mask or entry."""
