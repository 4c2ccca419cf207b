"""The training loop and its parts: learning rate, optimizers, EMA, sampling, augmentation and losses."""
