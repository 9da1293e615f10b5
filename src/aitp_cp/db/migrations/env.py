"""Alembic's entry point: runs the revisions on the connection that `run.py` hands over."""

from alembic import context

from aitp_cp.db.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    on_version_apply=context.config.attributes["on_version_apply"],
    transaction_per_migration=True,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
