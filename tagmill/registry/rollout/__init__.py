"""How versions of a model come into production and leave it: shadows, canaries, promotion, rollback, retirement."""
