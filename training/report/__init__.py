"""What a person looks at after a training: figures, page, model card."""
