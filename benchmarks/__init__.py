"""How fast Tagmill is beside the limit of the machine and beside what people use instead. See README.md."""
