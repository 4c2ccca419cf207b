"""Keep working through outages: wait for a database or a broker that is down, and call the ledger again."""
