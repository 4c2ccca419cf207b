"""This machine: its disks, and the folders that workers read."""
