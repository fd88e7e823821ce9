"""The section ``[clusters.NAME.identity]``."""

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hpcbridge.config.fields import FilePath, Pattern, Seconds, Section

SudoersPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_.+-]+)+$")]
Mode = Literal["service", "sudo", "ssh-ca", "ssh-key"]

ACCOUNT_PATTERN = r"[a-z][a-z0-9_-]{0,31}"
RUNAS = r"%?[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"

#: The keys that only one mode has a use for.
KEYS_OF: dict[str, tuple[str, ...]] = {
    "sudo": ("runas", "commands_dir", "helper"),
    "ssh-ca": ("ca_key", "lifetime", "source_addresses"),
    "ssh-key": ("keys",),
}


class IdentitySettings(Section):
    """As whom jobs run, files are written and read, and nodes are reached."""

    mode: Mode = Field(
        "service",
        description="service: all as the account of this service, or of the SSH login; sudo: "
        "commands by 'sudo -u ACCOUNT', where the service's account runs commands; ssh-ca: SSH "
        "with certificates that this service signs for each account; ssh-key: SSH with a key of "
        "each account. All but the first need an [auth] section, for they need a user.",
    )
    pattern: Pattern = Field(
        ACCOUNT_PATTERN,
        description="Regular expression that the whole name of an account must match (ASCII).",
    )
    map_file: FilePath | None = Field(
        None,
        description="File of lines 'user account'. Where given, only users that it names may "
        "launch. By default a user's name is the account's.",
    )
    least_uid: int = Field(
        1000, ge=1, description="Accounts with a smaller number are the system's, and refused."
    )
    listing: Literal["service", "user"] = Field(
        "service",
        description="Who asks for the jobs' states: the service's account for all users in one "
        "query, or each user for the own jobs, where others' cannot be seen (PrivateData=jobs).",
    )
    runas: list[str] = Field(
        default_factory=list,
        description="sudo: the accounts, and %groups of accounts, that the printed rules allow.",
    )
    commands_dir: SudoersPath = Field(
        "/usr/bin", description="sudo: where the scheduler's commands are."
    )
    helper: SudoersPath = Field(
        "/usr/local/libexec/hpcbridge-files",
        description="sudo: where 'hpcbridge sudoers --helper' is installed.",
    )
    ca_key: FilePath | None = Field(
        None,
        description="ssh-ca: file of the CA's private key (0600, of this service's account or "
        "root's); by default the systemd credential 'ca_key'.",
    )
    lifetime: Seconds = Field(
        300, ge=30, le=86400, description="ssh-ca: seconds for which a certificate lets in."
    )
    source_addresses: list[str] = Field(
        default_factory=list,
        description="ssh-ca: networks from which certificates are good: this host's addresses as "
        "the login host sees them, and the login host's as the nodes do. Anywhere by default.",
    )
    keys: str | None = Field(
        None,
        pattern=r"^/.*\{account\}",
        description="ssh-key: file of an account's private key, such as "
        "/etc/hpcbridge/keys/{account} (0600, of this service's account or root's).",
    )

    @field_validator("runas")
    @classmethod
    def _accounts_and_groups(cls, value: list[str]) -> list[str]:
        for each in value:
            if not re.fullmatch(RUNAS, each) or each in ("root", "%root", "ALL"):
                raise ValueError(f"'{each}' is no account and no %group of users")
        return value

    @field_validator("source_addresses")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for each in value:
            ipaddress.ip_network(each)
        return value

    @classmethod
    def _default(cls, key: str) -> object:
        return cls.model_fields[key].get_default(call_default_factory=True)

    @model_validator(mode="after")
    def _of_this_mode(self) -> Self:
        for mode, keys in KEYS_OF.items():
            strange = [each for each in keys if getattr(self, each) != self._default(each)]
            if strange and mode != self.mode:
                raise ValueError(
                    f"{', '.join(strange)}: only for mode = '{mode}', not for '{self.mode}'"
                )
        if self.mode == "sudo" and not self.runas:
            raise ValueError(
                "runas is needed for mode = 'sudo': accounts and %groups, such as ['%viz']"
            )
        if self.mode == "ssh-key" and self.keys is None:
            raise ValueError(
                "keys is needed for mode = 'ssh-key', such as '/etc/hpcbridge/keys/{account}'"
            )
        return self

    @property
    def personal(self) -> bool:
        """Whether each user's jobs are the user's own."""
        return self.mode != "service"
