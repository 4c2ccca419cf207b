"""Count what a run gave, in SQL: labels, scores and embeddings of all its images, or of groups of them."""
