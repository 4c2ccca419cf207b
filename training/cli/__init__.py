"""The command `tagmill train`: options.py is shared, each recipe has a module for its subcommand."""
