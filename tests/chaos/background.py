"""The event loop that the proxies and the sensors live in, in a thread of its own."""
import asyncio
import logging
import threading

logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns where a connection is lost


class Background:
    """Runs from the start until close()."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._tickers = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, function, *arguments):
        """The value of function(*arguments), which runs in the loop."""
        async def called():
            return function(*arguments)
        return self.wait(called())

    def wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def every(self, seconds, function):
        """Calls function() again and again; returns what ends that when it is called."""
        async def ticking():
            while True:
                function()
                await asyncio.sleep(seconds)
        task = asyncio.run_coroutine_threadsafe(ticking(), self.loop)
        return task.cancel

    def close(self):
        self.wait(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _cancel_all(self):
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
