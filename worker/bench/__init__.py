"""`tagmill bench`: measure how a bundle runs fastest on this machine."""
