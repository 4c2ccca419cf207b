"""What a version must show before it comes into production: gates, each with what was found."""
