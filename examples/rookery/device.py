"""A device of a user: what outlives its connections. Section 6 of docs/protocol.md.

It keeps itself connected to one node or another, repeats what was not answered with the number it had, and gives every
message of every session to `on_event` once and in order, own ones among them. Its memory dies with the process, so each
run registers anew; a program for people would keep epoch, numbers and positions in a file.
"""

import asyncio
import itertools
import random
import secrets
from collections import defaultdict
from types import SimpleNamespace

from .frames import (
    CREATE_GROUP, DELIVERED, GOAWAY, HELLO, JOINED, LAGGED, LEFT, MESSAGE, PING, PULL, READ_MARK, SEND, SYNC,
)  # fmt: skip
from .link import MARGIN, PATIENCE, Link, Lost, Refused

BAD_REQUEST, CLIENT_SEQ_GAP, DEVICE_REPLACED = 300, 400, 204
# Refusals after which the number is taken, by docs/errors.md. After any other the next request has the same number, and
# after these of the second line, NOT_MEMBER the first of them, too if `detail` is 0.
NUMBER_TAKEN = {401, 402, 403, 405, 406, 407, 410, 411, 412, 413, 414, 415, 416, 417, 419, 421, 422, 425, 428, 435, 436}
PERHAPS_TAKEN = {403, 405, 414, 417, 421, 422, 425, 428, 436}
# Records kept aside in front of a gap, per session; what comes beyond is pulled with the gap.
ASIDE = 1000


class Device:
    """`on_event(what, session, value)` hears "message", "read", "joined", "left", and of the connection "connected" and
    "trouble". `begin` says where to begin in sessions that are there at the start: "live" (now), "resume" (what this
    device told to be delivered) or "joined"."""

    def __init__(self, addresses, user, device, on_event, token=b"", role="user", begin="live"):
        self.addresses, self.user, self.device = addresses, user, device
        self.token, self.role, self.begin = token, role, begin
        self.on_event = on_event
        self.epoch, self.nonce = 0, secrets.randbits(64)
        self.link, self.welcome = None, None
        self.up = asyncio.Event()
        self.numbers = {}  # session -> the last client_seq taken
        self.numbering = defaultdict(asyncio.Lock)  # session -> held while a numbered request is unanswered
        self.have = {}  # session -> everything up to this seq has been given to on_event
        self.aside = defaultdict(dict)  # session -> seq -> record that came before its turn
        self.goal = defaultdict(int)  # session -> pushes are without a gap from beyond this seq, and not before
        self.pulling = {}  # session -> the task that pulls what is missing
        self.told = {}  # session -> what DELIVERED has told
        self.looking, self.look_once_more = None, False
        self.synced, self.replaced = False, False
        self.tasks = set()

    # Connecting

    async def start(self):
        """Connects, and stays connected until `stop`. Raises `Refused` if no node will have this identity."""
        self.keeper = self.spawn(self.keep_connected())
        await self.connected()
        return self

    async def stop(self):
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.link:
            self.link.close("stopped")
            await self.link.ended()

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def connected(self):
        """The link, as soon as there is one."""
        up = asyncio.ensure_future(self.up.wait())
        await asyncio.wait({up, self.keeper}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self.keeper.done():
            self.keeper.result()
            raise Lost("stopped")
        return self.link

    async def keep_connected(self):
        pause = 0.05
        for address in itertools.cycle(self.addresses):
            try:
                link = self.link = await Link.open(address, self.on_push)
                await self.greet(link)
                pause = 0.05
                self.on_event("connected", None, f"node {self.welcome.node} at {address}")
                await asyncio.wait([self.spawn(self.serve(link)), link.listening], return_when=asyncio.FIRST_COMPLETED)
                self.on_event("trouble", None, link.why)
            except Lost as reason:
                self.on_event("trouble", None, str(reason))
            except Refused as refused:
                if refused.retry == "never":
                    raise
            finally:
                self.up.clear()
                if self.link:
                    self.link.close("another is tried")
            if self.replaced:  # two that take each other's place for ever help nobody
                raise Lost("this device has connected elsewhere")
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 2)

    async def greet(self, link):
        self.welcome = await link.ask(
            HELLO, min_version=1, max_version=1, user=self.user, device=self.device, epoch=self.epoch,
            nonce=self.nonce, role=self.role, token=self.token, agent=b"client.py 1", platform=b"python",
        )  # fmt: skip
        self.epoch = self.welcome.epoch
        link.limit = self.welcome.limits.frame
        link.patience = max(PATIENCE, self.welcome.deadline_ms / 1000 + MARGIN)

    async def serve(self, link):
        """Everything a connection needs besides answers and pushes. Ends with the link."""
        try:
            await self.sync_on(link)
            self.up.set()
            silence = self.welcome.idle_ms / 3000
            while True:
                await asyncio.sleep(min(1, silence))
                await self.tell_delivered(link)
                if asyncio.get_running_loop().time() - min(link.heard, link.said) > silence:
                    await link.ask(PING)
        except (Lost, Refused) as reason:
            link.close(str(reason))

    async def tell_delivered(self, link):
        fresh = [(session, seq) for session, seq in self.have.items() if seq > self.told.get(session, 0)]
        if fresh:
            await link.tell(DELIVERED, 0, cursors=fresh[:1000])
            self.told.update(fresh[:1000])

    # Asking

    async def ask(self, kind, **fields):
        """Asks until there is an answer that counts. Every request may be repeated: numbers see to it that what
        was stored is not stored again."""
        while True:
            link = await self.connected()
            try:
                return await link.ask(kind, **fields)
            except Lost:
                await asyncio.sleep(0.02)
            except Refused as refused:
                if refused.retry == "never":
                    raise
                if refused.retry == "reconnect":
                    link.close(str(refused))
                else:
                    await asyncio.sleep(refused.retry[1] / 1000)

    async def numbered(self, kind, session, **fields):
        """Asks under the device's next number in the session. One at a time per session keeps this simple; the
        protocol allows many in flight."""
        async with self.numbering[session]:
            number = self.numbers.get(session, 0) + 1
            while True:
                self.numbers[session] = number
                try:
                    return number, await self.ask(kind, session=session, client_seq=number, **fields)
                except Refused as refused:
                    if refused.code == CLIENT_SEQ_GAP and 0 < refused.detail < number:
                        number = refused.detail  # nothing was stored under ours
                        continue
                    free = refused.code in PERHAPS_TAKEN and refused.detail == 0
                    if free or refused.code not in NUMBER_TAKEN:
                        self.numbers[session] = number - 1
                    raise

    async def send(self, session, text, content_type=b"text/plain", on_behalf_of=None):
        content = text.encode()
        number, ack = await self.numbered(
            SEND, session, on_behalf_of=on_behalf_of, content_type=content_type, content=content, extensions=[]
        )
        own = SimpleNamespace(
            seq=ack.seq, message_id=ack.message_id, time_ms=ack.time_ms, count=ack.count,
            sender=on_behalf_of or self.user, device=self.device, epoch=self.epoch, client_seq=number,
            kind=0, content_type=content_type, content=content, extensions=[],
        )  # fmt: skip
        self.take(session, own)  # the ACK stands for the push
        return ack

    async def change(self, kind, session, users):
        """CREATE_GROUP, ADD_MEMBERS or REMOVE_MEMBERS."""
        _, ack = await self.numbered(kind, session, on_behalf_of=None, users=users)
        if kind is CREATE_GROUP:
            self.have.setdefault(session, 0)
        if session in self.have:  # the record says whom it really concerned, so it is pulled and not made up here
            self.catch_up(session, ack.seq)
        return ack

    async def pull(self, session, from_seq, direction="forward", max_count=500, consistency="linearizable"):
        return await self.ask(
            PULL, session=session, from_seq=from_seq, direction=direction, max_count=max_count,
            max_bytes=512 << 10, consistency=consistency,
        )  # fmt: skip

    async def sync(self):
        """The user's sessions, all pages."""
        while True:
            link = await self.connected()
            try:
                return await self.sync_on(link)
            except Lost:
                await asyncio.sleep(0.02)
            except Refused as refused:
                if refused.code != BAD_REQUEST and refused.retry == "never":
                    raise
                await asyncio.sleep(0.1)

    async def sync_on(self, link):
        """One SYNC at a time: the token of a page ends with its connection, and with the next SYNC there."""
        async with link.syncing:
            sessions, unresolved, after = [], [], None
            while after is None or after:
                page = await link.ask(SYNC, after=after or b"", limit=200, since=b"")
                sessions += page.sessions
                unresolved += page.unresolved
                after = page.next
        begin = "joined" if self.synced else self.begin  # what is new later on is had from its beginning
        for summary in sessions:
            self.adopt(summary, begin)
        self.synced = True
        for session in [session for session in self.aside if session not in self.have]:
            del self.aside[session]  # not a session of this user; if it is one after all, JOINED and PULL will tell
        if unresolved:
            self.on_event("trouble", None, f"unresolved: {', '.join(str(session) for session, _ in unresolved)}")
            asyncio.get_running_loop().call_later(1, self.look_again)
        return {summary.session: summary for summary in sessions}

    # Receiving

    def on_push(self, kind, body):
        if kind is MESSAGE:
            self.take(body.session, body.record)
        elif kind is JOINED:
            self.on_event("joined", body.session, None)
            self.look_again()
        elif kind is LEFT:
            self.have.pop(body.session, None)
            self.aside.pop(body.session, None)
            self.on_event("left", body.session, None)
        elif kind is READ_MARK:
            self.on_event("read", body.session, body.seq)
        elif kind is LAGGED and body.sessions:
            for session, live_from in body.sessions:
                self.catch_up(session, live_from - 1)
        elif kind is LAGGED:
            self.look_again()
        elif kind is GOAWAY:
            self.link.why = f"GOAWAY {body.code}: {body.text.decode(errors='replace')}"
            self.replaced = body.code == DEVICE_REPLACED

    def take(self, session, record):
        """The rule of receiving: what is next is given on, what is old is dropped, what is early waits."""
        aside, have = self.aside[session], self.have.get(session)
        if (have is None or record.seq > have) and len(aside) < ASIDE:
            aside[record.seq] = record
        if have is None:
            return self.look_again()  # SYNC will say where this session begins
        self.release(session)
        if aside:
            self.catch_up(session, max(aside))

    def release(self, session):
        """Gives on what is next, and lets go of what is old."""
        aside = self.aside[session]
        for seq in sorted(aside):
            if seq == self.have[session] + 1:
                self.have[session] = seq
                self.on_event("message", session, aside[seq])
            if seq <= self.have[session]:
                del aside[seq]

    def adopt(self, summary, begin):
        """What SYNC says of a session."""
        session = summary.session
        self.numbers[session] = max(self.numbers.get(session, 0), summary.last_client_seq)
        if session not in self.have:
            places = {"live": summary.last_seq, "joined": summary.joined_seq - 1, "resume": summary.delivered_seq}
            self.have[session] = max(places[begin], summary.first_seq - 1)
        self.catch_up(session, max(summary.last_seq, summary.live_from - 1))

    def look_again(self):
        """SYNC says where the user joined a new session, and which sessions have more than this device has."""
        self.look_once_more = True
        if not self.looking or self.looking.done():
            self.looking = self.spawn(self.look())

    async def look(self):
        while self.look_once_more:
            self.look_once_more = False
            try:
                await self.sync()
            except (Lost, Refused) as reason:
                self.on_event("trouble", None, f"SYNC: {reason}")

    def catch_up(self, session, goal):
        """Pulls until everything up to `goal` is there."""
        if session not in self.have:
            return self.look_again()
        self.goal[session] = max(self.goal[session], goal)
        running = self.pulling.get(session)
        if self.have[session] < self.goal[session] and (not running or running.done()):
            self.pulling[session] = self.spawn(self.pull_missing(session))

    async def pull_missing(self, session):
        async with self.numbering[session]:
            pass  # what is missing may be an own message whose ACK is on its way
        while session in self.have and self.have[session] < self.goal[session]:
            try:
                page = await self.pull(session, self.have[session] + 1)
            except (Lost, Refused) as reason:
                return self.on_event("trouble", session, f"PULL: {reason}")
            if not page.records and page.first_seq <= self.goal[session]:
                return self.on_event("trouble", session, f"PULL: nothing up to {self.goal[session]}")
            if session in self.have:
                self.have[session] = max(self.have[session], page.first_seq - 1)  # what is before was trimmed
                self.aside[session].update((record.seq, record) for record in page.records)
                self.release(session)
