"""What is known of pictures: their measures, the rules that they are checked with, groups of duplicates."""
