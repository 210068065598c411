"""Two users on two nodes talk to each other, and every answer is compared with what the protocol promises.

Names are new in every run, so it can be repeated on a cluster with data in it. It stops at the first surprise.
"""

import asyncio
import secrets

from . import digest
from .device import Device
from .frames import (
    ADD_MEMBERS, CREATE_GROUP, DIGEST, LIST_MEMBERS, PING, READ, REMOVE_MEMBERS, SEND, SIGNAL, Kind,
)  # fmt: skip
from .link import Refused
from .values import Struct, decode, direct, group

DEADLINE = 15


class Surprise(Exception):
    """The cluster did something else than promised."""


def same(what, got, wanted):
    if got != wanted:
        raise Surprise(f"{what}: {got!r}, promised was {wanted!r}")


def step(text):
    print(f"ok  {text}", flush=True)


class Person:
    """A user with a device and what it has heard."""

    def __init__(self, name, addresses, token):
        self.name = name
        self.heard = []  # (what, session, value)
        self.news = asyncio.Event()
        self.device = Device(addresses, name, "smoke", self.on_event, token=token)

    def on_event(self, what, session, value):
        self.heard.append((what, session, value))
        self.news.set()

    def messages(self, session):
        return [value for what, where, value in self.heard if what == "message" and where == session]

    async def until(self, what, condition):
        """Waits until a condition over what was heard holds."""
        try:
            await asyncio.wait_for(self.listen_for(condition), DEADLINE)
        except asyncio.TimeoutError:
            raise Surprise(f"{self.name} waited in vain for {what}; heard {self.heard[-5:]}") from None

    async def listen_for(self, condition):
        while not condition():
            self.news.clear()
            await self.news.wait()

    async def until_seq(self, session, seq):
        """Waits for the message with this seq; every one up to it must have come once and in order."""
        await self.until(f"seq {seq} of {session}", lambda: len(self.messages(session)) >= seq)
        same(f"seqs at {self.name}", [m.seq for m in self.messages(session)], list(range(1, seq + 1)))
        return self.messages(session)[seq - 1]


async def refused(code, asking):
    """The request must be refused with this code."""
    try:
        answer = await asking
    except Refused as refusal:
        same("code of the refusal", refusal.code, code)
        return refusal
    raise Surprise(f"{answer} instead of a refusal with {code}")


async def run(addresses, token=b""):
    run_id = secrets.token_hex(4)
    alice = Person(f"alice-{run_id}", addresses, token)
    bob = Person(f"bob-{run_id}", addresses[1:] + addresses[:1], token)
    await asyncio.gather(alice.device.start(), bob.device.start())
    nodes = alice.device.welcome.node, bob.device.welcome.node
    same("cluster of both", bob.device.welcome.cluster, alice.device.welcome.cluster)
    if nodes[0] == nodes[1]:
        raise Surprise(f"both are on node {nodes[0]}; give two nodes")
    step(f"{alice.name} is on node {nodes[0]}, {bob.name} on node {nodes[1]}")
    try:
        await talk(alice, bob)
        await number(alice, bob)
        await meet(alice, bob, f"smoke-{run_id}")
        await survive(alice, bob)
    finally:
        await asyncio.gather(alice.device.stop(), bob.device.stop())
    step("all as promised")


async def talk(alice, bob):
    """A direct session comes to be, and both sides hear both sides."""
    session = direct(alice.name, bob.name)
    await refused(404, alice.device.pull(session, 1))
    ack = await alice.device.send(session, "hello, bob")
    same("first ACK", (ack.session, ack.client_seq, ack.seq, ack.count), (session, 1, 1, 1))
    heard = await bob.until_seq(session, 1)
    same("first message", (heard.sender, heard.content, heard.message_id), (alice.name, b"hello, bob", ack.message_id))
    step(f"{session} 1  {alice.name}: hello, bob")
    ack = await bob.device.send(session, "hello, alice")
    same("answer", (ack.client_seq, ack.seq, ack.count), (1, 2, 2))
    heard = await alice.until_seq(session, 2)
    same("answer as heard", (heard.sender, heard.content), (bob.name, b"hello, alice"))
    step(f"{session} 2  {bob.name}: hello, alice")
    page = await alice.device.pull(session, 1)
    same("page", (page.first_seq, page.last_seq, [r.seq for r in page.records]), (1, 2, [1, 2]))
    newest = await bob.device.pull(session, 0, direction="backward", max_count=1, consistency=("at_least", 2))
    same("newest", newest.records, page.records[1:])
    step("both pull what they heard")
    running = digest.begin(session)
    for record in page.records:
        running = digest.after(running, record)
    reply = await bob.device.ask(DIGEST, session=session, seq=0, consistency="linearizable")
    same("digest", (reply.seq, reply.digest.hex()), (2, running.hex()))
    same("digest before the first", reply.before.hex(), digest.begin(session).hex())
    await refused(408, bob.device.ask(DIGEST, session=session, seq=3, consistency="linearizable"))
    step("its digest is that of the cluster")


async def number(alice, bob):
    """Numbers: a retry is stored once, a gap and a reuse are refused and store nothing."""
    session = direct(alice.name, bob.name)
    link = await alice.device.connected()

    def again(number, content):
        return link.ask(
            SEND, session=session, client_seq=number, on_behalf_of=None, content_type=b"text/plain",
            content=content, extensions=[],
        )  # fmt: skip

    ack = await again(1, b"hello, bob")
    same("ACK of a retry", (ack.client_seq, ack.seq), (1, 1))
    await refused(401, again(1, b"something else"))
    gap = await refused(400, again(9, b"too far"))
    same("number expected", gap.detail, 2)
    same("last seq", (await alice.device.pull(session, 1)).last_seq, 2)
    step("a retry is stored once; reuse and gap are refused")
    kind = Kind(100, "NO_SUCH_KIND", Struct())
    await refused(101, link.ask(kind))
    await link.ask(PING)
    step("an unknown kind is refused, the connection lives on")


async def meet(alice, bob, name):
    """A group: members, signals, unread and read, leaving."""
    session = group(name)
    ack = await alice.device.change(CREATE_GROUP, session, [bob.name])
    same("ACK of the group", (ack.seq, ack.count), (1, 0))
    for person in (alice, bob):
        created = await person.until_seq(session, 1)
        same("signal", (created.kind, decode(SIGNAL, created.content).users), (1, sorted([alice.name, bob.name])))
    members = await bob.device.ask(LIST_MEMBERS, session=session, after=None, limit=10)
    same("members", (members.users, members.more, members.total), (sorted([alice.name, bob.name]), False, 2))
    step(f"{session} 1  created, both are in it")
    await alice.device.send(session, "welcome")
    await bob.until_seq(session, 2)
    await bob.device.send(session, "thank you")
    await alice.until_seq(session, 3)
    await alice.device.send(session, "until tomorrow")
    await bob.until_seq(session, 4)
    step(f"{session} 2–4  talk")
    sessions = await bob.device.sync()
    same("sessions of bob", set(sessions), {session, direct(alice.name, bob.name)})
    summary = sessions[session]
    same("summary", (summary.last_seq, summary.count, summary.members, summary.joined_seq), (4, 3, 2, 1))
    same("own number and unread", (summary.last_client_seq, summary.unread), (1, 1))
    same("last message", summary.last.content, b"until tomorrow")
    mark = await bob.device.ask(READ, session=session, seq=4)
    same("read mark", (mark.seq, mark.count), (4, 3))
    same("older mark", (await bob.device.ask(READ, session=session, seq=2)).seq, 4)
    beyond = await refused(408, bob.device.ask(READ, session=session, seq=5))
    same("last seq", beyond.detail, 4)
    summary = (await bob.device.sync())[session]
    same("after reading", (summary.read_seq, summary.unread), (4, 0))
    step("sync counts one unread, after READ none")
    await alice.device.change(REMOVE_MEMBERS, session, [bob.name])
    await bob.until("LEFT", lambda: ("left", session, None) in bob.heard)
    await refused(403, bob.device.send(session, "still here?"))
    await refused(403, bob.device.pull(session, 1))
    same("sessions of bob", set(await bob.device.sync()), {direct(alice.name, bob.name)})
    await alice.device.change(ADD_MEMBERS, session, [bob.name])
    ack = await bob.device.send(session, "back again")
    same("after coming back", (ack.client_seq, ack.seq), (3, 7))  # the refused send had used up number 2
    await alice.until_seq(session, 7)
    step("a removed member is out, and can come back")


OF_CLUSTER = (1, 8, 9)


def said(records):
    """Records without the extensions that the cluster adds: the salt of one's own message is not in its ACK."""
    kept = [[item for item in record.extensions if item.tag not in OF_CLUSTER] for record in records]
    return [{**vars(record), "extensions": extensions} for record, extensions in zip(records, kept)]


async def survive(alice, bob):
    """A lost connection: what was not answered is repeated with its number, and nothing is missed."""
    session = direct(alice.name, bob.name)
    first = len(bob.messages(session)) + 1
    for round in range(3):
        sending = asyncio.ensure_future(asyncio.gather(*(alice.device.send(session, f"{round}.{n}") for n in range(5))))
        await asyncio.sleep(0.005 * round)  # cut at another moment each time
        for person in (alice, bob):
            person.device.link.writer.transport.abort()
        acks = await asyncio.wait_for(sending, DEADLINE)
        wanted = list(range(first + 5 * round, first + 5 * round + 5))
        same("seqs over a lost connection", [ack.seq for ack in acks], wanted)
    for person in (alice, bob):
        await person.until_seq(session, first + 14)
    same("what both have", said(bob.messages(session)), said(alice.messages(session)))
    step(f"{session} {first}–{first + 14}  three lost connections later nothing is lost, doubled or out of order")
