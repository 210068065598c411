"""A link: one TCP connection. Gives each answer to whoever asked, and every push to one listener."""

import asyncio
from types import SimpleNamespace

from .frames import ERROR, KINDS, MAX_FRAME, FrameFault, cut_frame, frame
from .values import Malformed, decode

# A node tries for so long before it says UNAVAILABLE, as WELCOME tells, 10 seconds mostly; one that says nothing for
# longer is gone.
PATIENCE = 15
MARGIN = 5


class Lost(Exception):
    """The connection ended. What was asked is unknown; asking again elsewhere is safe."""


class Refused(Exception):
    """An ERROR frame."""

    def __init__(self, error):
        super().__init__(f"{error.code}: {error.text.decode(errors='replace')}")
        self.code, self.retry, self.detail = error.code, error.retry, error.detail


class Link:
    def __init__(self, reader, writer, on_push):
        self.reader, self.writer, self.on_push = reader, writer, on_push
        self.waiting = {}  # request id -> the future of its answer
        self.last_id = 0
        self.limit, self.patience = MAX_FRAME, PATIENCE
        self.syncing = asyncio.Lock()
        self.heard = self.said = asyncio.get_running_loop().time()
        self.why = "closed by the node"
        self.listening = asyncio.create_task(self.listen())

    @classmethod
    async def open(cls, address, on_push):
        host, _, port = address.rpartition(":")
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 2)
        except (OSError, asyncio.TimeoutError) as reason:
            raise Lost(f"{address}: {reason or 'no answer'}") from None
        return cls(reader, writer, on_push)

    async def ask(self, kind, **fields):
        """Sends a request and waits for its answer; any number of them may wait at once."""
        self.last_id = request_id = self.last_id % 0xFFFFFFFF + 1
        self.waiting[request_id] = answer = asyncio.get_running_loop().create_future()
        try:
            await self.tell(kind, request_id, **fields)
            return await asyncio.wait_for(answer, self.patience)
        except asyncio.TimeoutError:
            self.close("the node says nothing")
            raise Lost(self.why) from None
        finally:
            del self.waiting[request_id]

    async def tell(self, kind, request_id, **fields):
        """Sends a frame. With request id 0 nothing is answered."""
        if self.listening.done():
            raise Lost(self.why)
        self.said = asyncio.get_running_loop().time()
        self.writer.write(frame(kind, request_id, SimpleNamespace(**fields)))
        try:
            await self.writer.drain()
        except OSError as reason:
            raise Lost(str(reason)) from None

    async def listen(self):
        """Reads until the connection ends, then fails all who still wait."""
        buffer = bytearray()
        try:
            while data := await self.reader.read(65536):
                self.heard = asyncio.get_running_loop().time()
                buffer.extend(data)
                while cut := cut_frame(buffer, self.limit):
                    self.dispatch(*cut)
        except (OSError, FrameFault, Malformed) as reason:
            self.why = f"{type(reason).__name__}: {reason}"
        finally:
            self.writer.close()
            for answer in self.waiting.values():
                if not answer.done():
                    answer.set_exception(Lost(self.why))

    def dispatch(self, number, request_id, data):
        if number not in KINDS:
            return  # of a newer server; to be passed over
        kind = KINDS[number]
        body = decode(kind.body, data)
        answer = self.waiting.get(request_id)
        if answer and not answer.done():
            answer.set_exception(Refused(body)) if kind is ERROR else answer.set_result(body)
        elif request_id == 0 and kind is ERROR:
            self.why = str(Refused(body))
        elif request_id == 0:
            self.on_push(kind, body)

    def close(self, why):
        self.why = why
        self.listening.cancel()

    async def ended(self):
        await asyncio.wait([self.listening])
