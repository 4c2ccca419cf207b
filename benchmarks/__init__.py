"""Compare Tagmill with the limit of the machine and with other tools. See README.md."""
