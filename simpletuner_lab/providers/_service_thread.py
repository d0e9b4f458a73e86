"""Coroutines of a stranger's service, called from threads that have a loop of their own or none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from simpletuner_lab.core.errors import ProviderUnavailable
from simpletuner_lab.providers.adapter import CloudJobNotFoundError, CloudJobRefusedError

T = TypeVar("T")


class ServiceThread:
    """One event loop, begun with the first call: what a service keeps open belongs to it."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its value.

        Raises:
            CloudJobNotFoundError, CloudJobRefusedError: as the service raised them.
            ProviderUnavailable: it raised anything else, or did not answer in time.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result(self._timeout_s)
        except (CloudJobNotFoundError, CloudJobRefusedError):
            raise
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise ProviderUnavailable(f"{self._name} did not answer within {self._timeout_s:g} s") from error
        except Exception as error:
            raise ProviderUnavailable(f"{self._name}: {error or type(error).__name__}") from error

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=f"service-{self._name}", daemon=True).start()
                weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
            return self._loop
