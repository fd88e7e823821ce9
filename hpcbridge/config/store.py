"""The section ``[store]``: the database."""

from pydantic import Field, SecretStr

from hpcbridge.config.fields import Seconds, Section


class StoreSettings(Section):
    """The database of sessions."""

    url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL; hpcbridge.sqlite in state_dir (sqlite+aiosqlite) by default.",
    )
    keep_ended: Seconds = Field(
        30 * 86400,
        description="Seconds for which ended sessions, and expired and revoked tokens, stay in the "
        "database.",
    )
