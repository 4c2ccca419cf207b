"""What two models said of the same images: counted in SQL, or read page by page in flat memory."""
