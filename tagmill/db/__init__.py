"""The SQL database: connections, schema, migrations, and statements over many rows."""
