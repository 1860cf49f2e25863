"""The catalogue behind the API: one interface, SQLite or PostgreSQL behind it."""
