"""Schema versions, run by Alembic on the connection the store hands over (`services.database`)."""
