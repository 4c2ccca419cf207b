"""The code of an image that is not there: `not_found` instead of `fetch_404`, which files had, too."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLES = ("run_image", "batch_failure")


def upgrade() -> None:
    """Rename the code where images failed with it."""
    for table in _TABLES:
        op.execute(f"UPDATE {table} SET error_code = 'not_found' WHERE error_code = 'fetch_404'")


def downgrade() -> None:
    """Rename it back."""
    for table in _TABLES:
        op.execute(f"UPDATE {table} SET error_code = 'fetch_404' WHERE error_code = 'not_found'")
