"""The command `tagmill train`, one module per subcommand."""
