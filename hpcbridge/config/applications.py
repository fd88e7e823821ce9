"""What an application is: how its job is made, what users may choose, and how long it may live."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hpcbridge.config.commandwords import first, unknown
from hpcbridge.config.fields import FilePath, Name, Pattern, Primitive, Property, Seconds, Section
from hpcbridge.config.viewing import ViewSettings
from hpcbridge.config.warm import WarmSettings


class ParameterSettings(Section):
    """A value that users may choose; templates see it as param.NAME."""

    type: Literal["str", "int", "float", "bool"] = Field(description="Type of the value.")
    default: Primitive | None = Field(None, description="Value when none is posted; else required.")
    choices: list[Primitive] | None = Field(
        None, min_length=1, description="The only values allowed."
    )
    pattern: Pattern | None = Field(None, description="Regular expression for the whole of a str.")
    max_length: int = Field(256, ge=1, description="Longest str, in characters.")
    min: float | None = Field(None, description="Smallest number.")
    max: float | None = Field(None, description="Largest number.")
    title: str = Field("", description="Name for people.")
    lenient: bool = Field(
        False,
        description="Whether a str takes a number, true or false for its text, and the default "
        "takes the place of what is not allowed, as with ParaViewWeb's launcher; else an error.",
    )
    secret: bool = Field(
        False,
        description="Whether what is told of a session leaves its value out, such as a password's; "
        "only the reply to the launch repeats it.",
    )
    upload: bool = Field(
        False,
        description="Whether a str is the name of a file that the user uploaded ([uploads]); "
        "templates see its absolute path. With the default '' it may be left out.",
    )

    @model_validator(mode="after")
    def _possible(self) -> "ParameterSettings":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min = {self.min:g} is above max = {self.max:g}")
        if self.upload and (self.type != "str" or self.choices or self.default not in (None, "")):
            raise ValueError(
                "upload = true goes with type = 'str', no choices, and no default but ''"
            )
        return self


READY_LINES = ("Starting factory", "App running at:")
"""What wslink and trame write when they accept connections; trame keeps wslink's to itself."""
ReadyText = Annotated[str, Field(min_length=1)]
ReadyPath = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ApplicationSettings(ViewSettings):
    """Something a user can ask for by name."""

    cluster: Annotated[list[Name], BeforeValidator(_listed)] = Field(
        min_length=1,
        description="The cluster that runs it, a name under [clusters]; or a list of several, of "
        "which each launch gets one, and of equal ones the first.",
    )
    choose: Literal["soonest", "first"] = Field(
        "soonest",
        description="Which of several clusters a launch gets: the one on which it is expected to "
        "start soonest, or the first one that answers. Never one that takes no new sessions.",
    )
    cluster_by_request: bool = Field(
        False, description="Whether a launch may post 'cluster', to have one of these clusters."
    )
    template: str = Field(
        description="Job template: a file of template_dirs, or one of hpcbridge's."
    )
    title: str = Field("", description="Name for people.")
    description: str = Field("", description="One or two sentences for people.")
    picture: FilePath | None = Field(
        None,
        description="Picture for its card, three wide by two high: PNG, JPEG, GIF, WebP or AVIF of "
        "at most 1 MB.",
    )
    ready_line: Annotated[list[ReadyText], BeforeValidator(_listed)] = Field(
        list(READY_LINES),
        min_length=1,
        description="Text in the job's output that says the application accepts connections; or a "
        "list of several, of which the first to come counts. By default wslink's and trame's.",
    )
    ready_path: ReadyPath | None = Field(
        None,
        description="In place of a ready line: a path of the application's. It is ready when it "
        "answers GET there with a status below 500.",
    )
    ready_port: bool = Field(
        False, description="In place of a ready line: it is ready when it listens on its port."
    )
    wait: Seconds = Field(
        300, description="Seconds that a launch may take, queue included, before it is given up."
    )
    hold: Seconds | None = Field(
        None,
        description="Seconds that a POST is held open; 'wait' by default. A launch that takes "
        "longer is answered 503 with Retry-After and goes on; the same request again joins it.",
    )
    keep: Seconds = Field(
        60,
        description="Seconds for which a session is kept that no client has and none waits for.",
    )
    idle: Seconds | None = Field(
        None,
        description="Seconds without an open connection after which a ready session is ended; "
        "never by default.",
    )
    longest: Seconds | None = Field(
        None, description="Seconds after which a ready session is ended in any case."
    )
    sessions: int | None = Field(
        None, ge=1, description="Sessions of this application that may wait or run at once."
    )
    per_user: int | None = Field(None, ge=1, description="The same for one user; needs [auth].")
    waiting: int | None = Field(
        None, ge=1, description="Sessions of this application whose jobs may wait for their start."
    )
    waiting_per_user: int | None = Field(
        None, ge=1, description="The same for one user; needs [auth]."
    )
    walltime: int | None = Field(
        None, ge=1, description="Seconds that the job may run; templates see it as job.walltime."
    )
    options: dict[Name, Primitive] = Field(
        default_factory=dict,
        description="Options for this application's jobs, over those of the cluster: nodes, gpus, "
        "account, ...; templates see them as cluster.NAME.",
    )
    properties: dict[Name, Property] = Field(
        default_factory=dict,
        description="The admin's own values, or lists of values; templates see them as app.NAME.",
    )
    parameters: dict[Name, ParameterSettings] = Field(
        default_factory=dict, description="Values that users may post."
    )
    command: list[str] = Field(
        default_factory=list,
        description="The program and its arguments, for the template commandline.sh. Filled in: "
        "${job.port}, ${job.bind}, ${job.launch} and ${job.secret_file} (launch.py and the secret, "
        "both files), ${job.name}, ${param.NAME}, ${app.NAME}; $$ is a dollar sign.",
    )
    warm: WarmSettings | None = Field(
        None, description="Sessions that are kept ready before anybody asks for them."
    )

    @field_validator("parameters")
    @classmethod
    def _free_names(cls, value: dict[str, ParameterSettings]) -> dict[str, ParameterSettings]:
        if taken := sorted(value.keys() & {"application", "id", "secret", "sessionURL", "error"}):
            raise ValueError(f"{', '.join(taken)}: reserved by the launcher API")
        return value

    @model_validator(mode="after")
    def _command_is_known(self) -> "ApplicationSettings":
        if self.template == "commandline.sh" and not self.command:
            raise ValueError("command is required with the template commandline.sh")
        there = {"param": self.parameters, "app": ("name", *self.properties)}
        for word in self.command:
            if wrong := unknown(word, there):
                raise ValueError(f"command: {wrong}")
            hole = first(word)
            rules = self.parameters.get(hole.name) if hole and hole.group == "param" else None
            if rules and rules.type == "str" and not (rules.pattern or rules.choices):
                raise ValueError(
                    f"command: '{word}' begins with {hole}, so users could add options to the "
                    "program: give the parameter choices, or a pattern such as '[^-].*'"
                )
        return self

    @property
    def ready_lines(self) -> list[str]:
        """The texts of which one makes it ready; none where its port or an answer does."""
        return [] if self.ready_port or self.ready_path else self.ready_line

    @model_validator(mode="after")
    def _ready_in_one_way(self) -> "ApplicationSettings":
        ways = ("ready_line", "ready_path", "ready_port")
        given = [each for each in ways if each in self.model_fields_set and getattr(self, each)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one of them, it says when it is ready")
        return self

    @model_validator(mode="after")
    def _one_of_several(self) -> "ApplicationSettings":
        if twice := [name for name in self.cluster if self.cluster.count(name) > 1]:
            raise ValueError(f"cluster: '{twice[0]}' is there twice")
        if self.cluster_by_request and "cluster" in self.parameters:
            raise ValueError("parameters.cluster: means the cluster with cluster_by_request = true")
        return self
