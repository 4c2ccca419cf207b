"""Object stores and file systems of other machines: opening them, and what is allowed to be read of them."""
