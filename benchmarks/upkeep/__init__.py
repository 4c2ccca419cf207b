"""What the commands of every day take on a database with millions of results and thousands of runs."""
