"""Tokens for OAUTHBEARER: a function of whoever runs this gives them; how that gets one is not known here."""

import asyncio
import threading
import time
from collections.abc import Callable
from importlib import import_module

from aiokafka.abc import AbstractTokenProvider as AioProvider
from aiokafka.errors import KafkaConnectionError as AioConnectionError
from kafka.errors import KafkaConnectionError
from kafka.net.sasl.oauth import AbstractTokenProvider

from stream.errors import BrokerError, UsageError

#: A token is used for this part of its life: what begins a handshake with it must end before it does.
USED = 0.8

Answer = str | tuple[str, float]


class Tokens:
    """The function `module:function`, called without arguments for a token, or for (token, seconds that it lives).

    One that says how long it lives is kept for most of that time; without, each new connection asks again.
    """

    def __init__(self, name: str) -> None:
        """Import the function.

        Raises:
            UsageError: there is no such module or function.
        """
        self.name = name
        self._ask = _function(name)
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def get(self) -> str:
        """A token that is alive; from any thread.

        Raises:
            BrokerError: the function fails, or gives something else; names it and the exception's type, nothing more.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                self._token, life_s = self._fetch()
                self._until = time.monotonic() + USED * life_s
            return self._token

    def _fetch(self) -> tuple[str, float]:
        try:
            answer = self._ask()
        except Exception as error:  # noqa: BLE001  # it is not ours; its text may hold a token
            raise BrokerError(f"INTEREST_SASL_TOKEN_PROVIDER: {self.name} failed: {type(error).__name__}") from None
        token, life_s = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, 0.0)
        is_token = isinstance(token, str) and token.isascii() and token.isprintable() and token
        if not is_token or isinstance(life_s, bool) or not isinstance(life_s, int | float) or not life_s >= 0:
            raise BrokerError(
                f"INTEREST_SASL_TOKEN_PROVIDER: {self.name}: expected a token, or a token and the seconds that it "
                f"lives, got {_described(answer)}"
            )
        return token, life_s

    def for_aiokafka(self) -> AioProvider:
        """What aiokafka asks for tokens."""
        return _ForAiokafka(self)

    def for_kafka_python(self) -> AbstractTokenProvider:
        """What kafka-python asks for tokens, in its own thread."""
        return _ForKafkaPython(self)


class _ForAiokafka(AioProvider):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def token(self) -> str:
        try:
            return await asyncio.to_thread(self._tokens.get)
        except BrokerError as error:
            raise AioConnectionError(str(error)) from None  # tried again, as a broker that is away


class _ForKafkaPython(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens

    def token(self) -> str:
        try:
            return self._tokens.get()
        except BrokerError as error:
            raise KafkaConnectionError(str(error)) from None


def _function(name: str) -> Callable[[], Answer]:
    module, _, function = name.partition(":")
    if not module or not function:
        raise UsageError(f"INTEREST_SASL_TOKEN_PROVIDER: expected MODULE:FUNCTION, got {name!r}")
    try:
        found = getattr(import_module(module), function)
    except Exception as error:  # noqa: BLE001  # what a module does when it is imported is not ours
        raise UsageError(
            f"INTEREST_SASL_TOKEN_PROVIDER: {name} cannot be imported: {type(error).__name__}; its folder must be in "
            "PYTHONPATH"
        ) from None
    if not callable(found):
        raise UsageError(f"INTEREST_SASL_TOKEN_PROVIDER: {name}: expected a function, got {type(found).__name__}")
    function_: Callable[[], Answer] = found
    return function_


def _described(answer: object) -> str:
    """The kind of an answer, without what is in it."""
    if isinstance(answer, tuple):
        return f"({', '.join(type(part).__name__ for part in answer)})"
    return type(answer).__name__ if not isinstance(answer, str) else "text that is no token"
