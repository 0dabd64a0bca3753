"""Runs the migrations on the connection that `database` hands over."""

from alembic import context

from services.action.cases.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
with context.begin_transaction():
    context.run_migrations()
