"""The SQL database: connections, schema, migrations, and statements that write many rows."""
