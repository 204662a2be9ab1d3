"""All settings of a worker: one frozen object, read once from the environment, every problem named at once."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stream.errors import UsageError
from stream.rules import Rules
from stream.security import Cluster, Mechanism, Protocol, Security, problems

PREFIX = "INTEREST_"
TABLE = "users"

DAY_MS = 86_400_000


class Settings(BaseSettings):
    """A worker's settings. Each is read from INTEREST_<NAME>; an option of a command goes before the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # which may be a password
    )

    broker: str = Field("127.0.0.1:9092", description="Kafka brokers, HOST:PORT, comma between several")
    security_protocol: Protocol = Field(
        "plaintext", description="how brokers are reached: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`"
    )
    ssl_ca_file: Path | None = Field(
        None, description="CA certificates (PEM) that the brokers' are checked by; unless set, the system's"
    )
    ssl_cert_file: Path | None = Field(None, description="the client's own certificate and its chain (PEM)")
    ssl_key_file: Path | None = Field(None, description="its private key (PEM)")
    ssl_key_password: SecretStr | None = Field(None, description="password of the private key; no option")
    ssl_key_password_file: Path | None = Field(None, description="file with that password instead")
    sasl_mechanism: Mechanism | None = Field(
        None, description="`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"
    )
    sasl_username: str | None = Field(None, description="user, of PLAIN and SCRAM")
    sasl_password: SecretStr | None = Field(None, description="the user's password; no option")
    sasl_password_file: Path | None = Field(None, description="file with that password instead")
    sasl_token_provider: str | None = Field(
        None, description="`module:function` that gives a token, or a token and the seconds it lives, for OAUTHBEARER"
    )
    app_id: str = Field(
        "interest",
        pattern=r"^[A-Za-z0-9._-]{1,200}$",
        description="name of the consumer group; the changelog is named after it; workers of one fleet share it",
    )
    event_topics: Annotated[tuple[str, ...], NoDecode] = Field(
        ("user-events",), min_length=1, description="topics with events, comma between several"
    )
    update_topic: str = Field("interest-updates", min_length=1, description="topic for updates, compacted")
    deadletter_topic: str = Field("dead-letters", min_length=1, description="topic for refused records")
    model: str | None = Field(
        None, description="folder or URL of the model bundle, or of a place that `interest model deploy` made"
    )
    model_check_s: float = Field(10.0, ge=0, description="seconds between looks for a new model there; 0: none")
    shadow_model: str | None = Field(
        None, description="a second model, as `model`, that runs over a share of the users"
    )
    shadow_share: float = Field(0.1, gt=0, le=1, description="share of the users that the second model runs over")
    shadow_topic: str = Field(
        "interest-updates-shadow", min_length=1, description="topic for the second model's updates, compacted"
    )
    data_dir: Path = Field(Path("interest-data"), description="folder for local state, one for each worker")
    store: Literal["rocksdb", "memory"] = Field(
        "rocksdb", description="local state: `rocksdb` survives a restart, `memory` is read from the changelog again"
    )
    window_max_events: int = Field(50, ge=2, le=1000, description="events a window holds at most")
    window_keep_events: int = Field(25, ge=1, description="events that stay when a window is full")
    window_max_age_days: float = Field(30.0, gt=0, le=36500, description="a window spans at most this")
    idle_ttl_days: float = Field(90.0, gt=0, le=36500, description="a user without events for so long is forgotten")
    batch_max_events: int = Field(8192, ge=1, le=1_000_000, description="waiting events taken as one batch")
    update_format: Literal["json", "float32"] = Field(
        "json", description="`json`: a list of numbers; `float32`: base64 of little-endian float32, about half the size"
    )
    update_categories: int = Field(0, ge=0, le=100, description="categories that an update names, the nearest first")
    provider: Literal["cpu", "cuda"] = Field("cpu", description="where the model runs")
    encoder_threads: int = Field(
        1, ge=0, le=256, description="threads of the model, never more than CPU quota and affinity allow; 0: that many"
    )
    state_cache_users: int = Field(
        100_000, ge=1, description="users whose model state is kept in memory; others are run again from their window"
    )
    standby_replicas: int = Field(1, ge=0, description="workers that hold a warm copy of each partition's state")
    instance_id: str | None = Field(None, description="static group membership, e.g. the pod's name: faster restarts")
    session_timeout_s: float = Field(10.0, ge=2, description="a silent worker's partitions move after this")
    heartbeat_s: float = Field(2.0, gt=0, description="seconds between heartbeats, at most a third of the session")
    commit_interval_s: float = Field(1.0, gt=0, description="seconds between offset commits")
    sweep_users: int = Field(
        1000, ge=0, le=1_000_000, description="stored users looked at each second for those idle too long; 0: none"
    )
    health_address: str | None = Field(
        None, description="HOST:PORT of `/livez`, `/readyz`, `/startupz` and `/metrics`; unless set, nothing listens"
    )
    stall_s: float = Field(60.0, gt=0, description="seconds without progress until `/readyz` turns red")
    stall_exit_s: float = Field(180.0, gt=0, description="seconds without progress until the process ends, code 73")
    drain_s: float = Field(25.0, gt=0, description="seconds that a stop may take before the process ends, code 73")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("event_topics", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("sasl_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_level", "security_protocol", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = problems(self)
        if self.window_keep_events >= self.window_max_events:
            wrong.append(
                f"window_keep_events must be below window_max_events, got {self.window_keep_events} "
                f"and {self.window_max_events}"
            )
        if self.idle_ttl_days < self.window_max_age_days:
            wrong.append(
                f"idle_ttl_days must not be below window_max_age_days, got {self.idle_ttl_days:g} "
                f"and {self.window_max_age_days:g}"
            )
        if self.heartbeat_s * 3 > self.session_timeout_s:
            wrong.append(
                f"heartbeat_s must be at most a third of session_timeout_s, got {self.heartbeat_s:g} "
                f"and {self.session_timeout_s:g}"
            )
        if self.stall_exit_s < self.stall_s:
            wrong.append(f"stall_exit_s must not be below stall_s, got {self.stall_exit_s:g} and {self.stall_s:g}")
        names = [*self.topics, self.deadletter_topic]
        if len(set(names)) < len(names):
            wrong.append(f"event, update, dead-letter and changelog topics must differ, got {', '.join(names)}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def cluster(self) -> Cluster:
        """The brokers, and how they are reached. Files that the settings name are read here.

        Raises:
            UsageError: one cannot be read.
        """
        return Cluster(self.broker, Security.of(self))

    @property
    def changelog_topic(self) -> str:
        """The topic that holds every user's table value; Faust's name for it."""
        return f"{self.app_id}-{TABLE}-changelog"

    @property
    def compacted_topics(self) -> tuple[str, ...]:
        """Updates, changelog and, with a second model, its updates."""
        return (self.update_topic, self.changelog_topic, *((self.shadow_topic,) if self.shadow_model else ()))

    @property
    def topics(self) -> tuple[str, ...]:
        """All that have equal partition counts: events, and what is compacted."""
        return (*self.event_topics, *self.compacted_topics)

    @property
    def rules(self) -> Rules:
        """The bounds of a window."""
        return Rules(
            max_events=self.window_max_events,
            keep_events=self.window_keep_events,
            max_age_ms=round(self.window_max_age_days * DAY_MS),
            idle_ttl_ms=round(self.idle_ttl_days * DAY_MS),
        )


#: Settings whose value is never shown, and that no option of a command gives: others see a process's arguments.
SECRETS = frozenset(name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation))


def load(options: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings: `options` that are not None go before the environment, the environment before the defaults.

    Raises:
        UsageError: one line that names every unknown or wrong setting.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    problems = []
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            problems.append(f"{name}: no such setting" + (f", did you mean {near[0]}?" if near else ""))
    given = {name: value for name, value in (options or {}).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False):
            where = PREFIX + str(problem["loc"][0]).upper() + ": " if problem["loc"] else ""
            is_told = bool(problem["loc"]) and problem["loc"][0] not in SECRETS
            got = f", got {problem['input']!r}" if is_told else ""
            problems.append(where + problem["msg"].removeprefix("Value error, ") + got)
    if problems:
        raise UsageError("wrong settings: " + " | ".join(problems))
    return settings
