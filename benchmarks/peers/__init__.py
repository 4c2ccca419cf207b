"""What people use instead of Tagmill, each as its own documentation shows it."""
