"""Export checkpoints as bundles, prove their parity with torch, evaluate and register them."""
