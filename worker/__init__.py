"""Turn batches of images into labels and masks in SQL: fetch, decode, infer, write."""
