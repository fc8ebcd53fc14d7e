"""localstripe on a free loopback port, its data in memory.

Its own command listens on every address, requires a port number, and stores its data in one file in /tmp that two
instances would share.
"""

import asyncio
import logging
import sys

from aiohttp import web
from localstripe.resources import Store
from localstripe.server import app

Store.dump_to_disk = lambda self: None


async def main() -> None:
    # One line for each request, for the diagnosis of failed tests.
    access = logging.getLogger('aiohttp.access')
    access.setLevel(logging.INFO)
    access.addHandler(logging.StreamHandler(sys.stderr))
    runner = web.AppRunner(app, access_log=access)
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', 0)
    await site.start()
    port = runner.addresses[0][1]
    print(f'listening on http://127.0.0.1:{port}', flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
