"""Models that come while the worker runs: found, proved and warmed beside the one that serves, then handed over.

Whatever is wrong with a new bundle is told and counted, once for each state that it is found in; the old one serves on.
"""

import asyncio
import contextlib
import logging
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from models import bundle as bundles
from models.bundle import Bundle
from models.place import Mark, Place, PlaceError
from stream import cpus
from stream.encode import Encoder
from stream.errors import BundleError, InterestError
from stream.metrics import Totals
from stream.serving import Role, Serving, Shadow
from stream.settings import Settings
from stream.update import UpdateFormat

log = logging.getLogger("interest")


class Rollout:
    """Follows where one model comes from. Its calls block: they belong on a thread of their own.

    Args:
        where: a bundle, or a place of bundles (models.place), by path or URL.
        cache: folder for what is fetched from elsewhere.
        prepare: opens the bundle, proves it by its golden vectors, and warms it.
        totals: counts what was refused, and looks that failed.
        role: "serving" or "shadow", for what is told.
    """

    def __init__(
        self, where: str, cache: Path, prepare: Callable[[Bundle], Encoder], totals: Totals, role: Role = "serving"
    ) -> None:
        self._place = Place(where)
        self._cache = cache
        self._prepare = prepare
        self._totals = totals
        self._role = role
        self._mark: Mark | None = None
        self._version = ""
        self._unreachable = False

    def try_to_start(self) -> Encoder | None:
        """As `start`; a model that is not fit is refused, as one that comes later is, and None takes its place."""
        try:
            return self.start()
        except (BundleError, PlaceError) as error:
            self._refuse(error)
            return None

    def start(self) -> Encoder:
        """The model to begin with. If a store cannot be reached, the last one that was fetched from it.

        Raises:
            BundleError: the bundle is missing, broken, or does not reproduce its golden vectors.
            PlaceError: nothing is to be had.
        """
        try:
            self._mark = self._place.mark()
            folder = self._place.obtain(self._cache)
        except PlaceError as error:
            kept = self._kept()
            if kept is None:
                raise
            log.warning("%s; begins with the bundle that was fetched last", error)
            folder = kept
        return self._take(bundles.load(folder))

    async def follow(self, every_s: float, hand_over: Callable[[Encoder, Role], Awaitable[None]]) -> None:
        """Look so often, and hand over what is to take over, until the task is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            encoder = await self._beside()
            if encoder is not None:
                await hand_over(encoder, self._role)

    async def _beside(self) -> Encoder | None:
        """A look on a thread that nobody waits for at the end: a store may take minutes to answer."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Encoder | None] = loop.create_future()

        def look() -> None:
            found = self.look()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended
                loop.call_soon_threadsafe(_set, outcome, found)

        threading.Thread(target=look, name=f"{self._role} model", daemon=True).start()
        return await outcome

    def look(self) -> Encoder | None:
        """A model that is to take over, ready; None: there is nothing new, or it is refused."""
        mark: Mark = ()
        try:
            mark = self._place.mark()
            self._unreachable = False
            if mark == self._mark:
                return None
            bundle = bundles.load(self._place.obtain(self._cache))
            encoder = None if bundle.version == self._version else self._take(bundle)
        except PlaceError as error:
            self._totals.model_checks_failed += 1
            if not self._unreachable:
                log.warning("no look at new models: %s; %s serves on", error, self._version)
            self._unreachable = True
            return None
        except Exception as error:  # noqa: BLE001  # whatever a new model brings along, the old one serves on
            self._mark = mark  # looked at again when something of it changes
            self._refuse(error)
            return None
        self._mark = mark
        return encoder

    def _refuse(self, error: Exception) -> None:
        self._totals.models_refused += 1
        kind = "" if isinstance(error, InterestError) else f"{type(error).__name__}: "
        log.error("new %s model refused, %s stays: %s%s", self._role, self._version or "none", kind, error)

    def _take(self, bundle: Bundle) -> Encoder:
        encoder = self._prepare(bundle)
        self._version = bundle.version
        if self._cache in bundle.folder.parents:
            self._keep_only(bundle.folder)
        return encoder

    def _kept(self) -> Path | None:
        """The bundle that was fetched last, if there is one."""
        if self._place.is_local or not self._cache.is_dir():
            return None
        found = [one for one in self._cache.iterdir() if one.is_dir() and not one.name.startswith(".")]
        return max(found, key=lambda one: one.stat().st_mtime, default=None)

    def _keep_only(self, folder: Path) -> None:
        for other in self._cache.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)


def _set(outcome: "asyncio.Future[Encoder | None]", found: Encoder | None) -> None:
    if not outcome.done():  # else nobody waits for it any more
        outcome.set_result(found)


def start_models(settings: Settings, totals: Totals) -> tuple[Serving, list[Rollout]]:
    """The models that the settings name, proved and warm, and what follows their places."""
    threads = cpus.threads(settings.encoder_threads, cpus.usable())

    def prepare(bundle: bundles.Bundle) -> Encoder:
        session = bundles.session(bundle, provider=settings.provider, threads=threads)
        deviation = bundles.verify(bundle, session)
        log.info("model %s on %s, golden vectors within %.1e", bundle.version, settings.provider, deviation)
        encoder = Encoder(bundle, session, settings.state_cache_users)
        encoder.warm(settings.window_max_events)
        return encoder

    cache = settings.data_dir / "models"
    assert settings.model is not None
    first = Rollout(settings.model, cache / "serving", prepare, totals, "serving")
    if settings.shadow_model is None:
        return Serving(first.start(), totals), [first]
    second = Rollout(settings.shadow_model, cache / "shadow", prepare, totals, "shadow")
    form = UpdateFormat(settings.update_format, settings.update_categories)
    shadow = Shadow(second.try_to_start(), settings.shadow_share, form, totals)
    return Serving(first.start(), totals, shadow), [first, second]
