"""What `tagmill doctor` looks at: one module for each subject."""
