"""Measure the commands submit, results, report and drift."""
