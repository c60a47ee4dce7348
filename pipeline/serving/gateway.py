"""Gateway: one of the processes that answer on the ports of a `pipeline serve`; a client of the pipelines as any other.

    hello ──▶ told everything by the keeper ──▶ connected to every model ──▶ ports open ──▶ ready
    Drain ──▶ not ready any more ──▶ nothing new is taken ──▶ what is under way is answered ──▶ the process ends

It has nothing that another gateway, or the one that is started in its place, must know: what clients can change is the
keeper's (`pipeline.serving.truth`). It starts no pipeline and ends none.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable

from pipeline.errors import StartError
from pipeline.serving.boot import GatewayBoot
from pipeline.serving.calls import Calls
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.frames import VERSION, Failed, Ready
from pipeline.serving.fronts import Fronts
from pipeline.serving.grpc_front import GrpcFront
from pipeline.serving.http_front import HttpFront
from pipeline.serving.inference import Inference
from pipeline.serving.journal import Journal
from pipeline.serving.link import Link
from pipeline.serving.regions import Regions
from pipeline.serving.told import Told

__all__ = ["serve"]

#: Requests of one model that may wait for a slot: their bytes are in memory meanwhile.
_PENDING = 1024


def serve(boot: GatewayBoot) -> None:
    """Serve until the keeper says that it is over, or is gone."""
    asyncio.run(_serve(boot))


async def _serve(boot: GatewayBoot) -> None:
    settings = boot.settings
    catalogue, journal = Catalogue(_PENDING), Journal()
    # It registers none itself, so that no key is allowed here: they come from the keeper, which asks what is.
    regions = Regions(())
    inference = Inference(catalogue, regions)
    told = Told(catalogue, regions, journal, inference.traffic)
    link = Link(socket.socket(fileno=boot.link), told.take, told.end)
    told.begin(link, VERSION)
    calls = Calls(settings, catalogue, regions, told, journal)
    fronts = Fronts(settings)
    try:
        await _first(told.complete.wait(), told.leave.wait())
        if not told.leave.is_set():
            await fronts.open(
                HttpFront(settings, catalogue, calls, inference, journal),
                GrpcFront(settings, catalogue, calls, inference, journal),
            )
            told.send(Ready())
            await told.leave.wait()
            catalogue.draining = True
            await fronts.close(told.drain_s)
    except (StartError, OSError) as error:
        # OSError: of the files of TLS.
        told.send(Failed(str(error)))
    finally:
        await fronts.close(0.0)
        regions.unregister("")
        await catalogue.close()
        link.close()


async def _first(*awaitables: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
