"""The section ``[uploads]``: where files that users send are put, and how much of them."""

from pathlib import Path

from pydantic import Field, field_validator

from hpcbridge.config.fields import FilePath, Section

MIB = 2**20
USER = "{user}"
"""Stands for the user in ``uploads.directory``."""


class UploadSettings(Section):
    """Files that users send for their applications to open."""

    directory: FilePath | None = Field(
        None,
        description="Directory on this host for uploaded files, where the applications' jobs see it"
        " under the same path: on the cluster's shared file system. Where there are users, {user} "
        "in it is a folder (0700) for each. Uploads are off without it.",
    )
    file_limit: int = Field(1024, ge=1, le=2**30, description="Mebibytes of one uploaded file.")
    total_limit: int = Field(
        10240,
        ge=1,
        le=2**30,
        description="Mebibytes of all files of a user, or of all together where there are none.",
    )
    count_limit: int = Field(
        1000, ge=1, description="How many files a user may have, or all together."
    )

    @field_validator("directory")
    @classmethod
    def _user_is_a_folder(cls, value: Path | None) -> Path | None:
        if value is not None and (
            value.parts.count(USER) > 1
            or "{" in str(value).replace(USER, "")
            or str(value).count(USER) != value.parts.count(USER)
        ):
            raise ValueError(f"{value}: {USER} must stand once, and for a whole folder's name")
        return value

    @property
    def on(self) -> bool:
        """Whether files can be uploaded."""
        return self.directory is not None

    @property
    def by_user(self) -> bool:
        """Whether each user has a folder."""
        return self.directory is not None and USER in self.directory.parts
