#!/usr/bin/env python3
"""A Rookery client written from docs/protocol.md alone. Python 3.9 or later, standard library only.

    client.py vectors wire/vectors                                       check it against the protocol's test vectors
    client.py chat   --addr 127.0.0.1:7401 --user alice --to bob         talk to a user
    client.py chat   --addr 127.0.0.1:7401 --user alice --group team     talk in a group; /help for commands
    client.py send   --addr 127.0.0.1:7401 --user alice --to bob hello   send one message, print its ACK
    client.py listen --addr 127.0.0.1:7401 --user bob                    print everything that arrives
    client.py smoke  --addr 127.0.0.1:7401 --addr 127.0.0.1:7402         two users on two nodes, all verified

--addr may be given several times: a lost connection moves on to the next. The library is in rookery/, in the order
in which a byte meets it: values.py, frames.py, digest.py, link.py (one connection), device.py (what outlives connections).
"""

import argparse
import asyncio
import secrets
import sys
import time

from rookery import smoke
from rookery.device import Device
from rookery.frames import ADD_MEMBERS, CREATE_GROUP, GROUP_ACTION, LIST_MEMBERS, READ, REMOVE_MEMBERS, SIGNAL
from rookery.link import Lost, Refused
from rookery.values import decode, direct, group
from rookery.vectors import check_folder

SIGNALS = {1: "created the group with", 2: "added", 3: "removed"}
HELP = "/members  /create NAME…  /add NAME…  /remove NAME…  /leave  /quit  or a line of text"


def describe(record):
    """A record as a line for people."""
    when = time.strftime("%H:%M:%S", time.localtime(record.time_ms / 1000))
    if record.kind == 0:
        return f"{when} {record.seq:>5}  {record.sender}: {record.content.decode(errors='replace')}"
    if record.kind in SIGNALS:
        users = ", ".join(decode(SIGNAL, record.content).users)
        return f"{when} {record.seq:>5}  * {record.sender} {SIGNALS[record.kind]} {users}"
    if record.kind == 7:
        return f"{when} {record.seq:>5}  * {record.sender}: {action_words(decode(GROUP_ACTION, record.content))}"
    return f"{when} {record.seq:>5}  * a record of kind {record.kind}"


def action_words(action):
    """A change to a group: its name, and its fields if it has any."""
    name, fields = action if isinstance(action, tuple) else (action, None)
    shown = (f"{key}={value}" for key, value in vars(fields).items() if value is not None) if fields else ()
    return " ".join([name.replace("_", " "), *shown])


def printer(of=None):
    """Prints what a device hears, of one session or of all."""

    def on_event(what, session, value):
        if of and session not in (of, None):
            return
        where = f"{session}  " if session and not of else ""
        if what == "message":
            print(where + describe(value), flush=True)
        elif what == "read":
            print(f"{where}  (read up to {value})", flush=True)
        else:
            print(f"  ({what}{' ' + str(session) if session else ''}{': ' + value if value else ''})", flush=True)

    return on_event


def session_of(options):
    if options.group:
        return group(options.group)
    if options.to and options.to != options.user:
        return direct(options.user, options.to)
    sys.exit("name whom to talk to: --to another USER, or --group NAME")


async def open_device(options, on_event, begin="live"):
    name = options.device or f"py-{secrets.token_hex(4)}"
    device = Device(options.addr, options.user, name, on_event, token=options.token.encode(), begin=begin)
    return await device.start()


async def run_send(options):
    session = session_of(options)
    device = await open_device(options, lambda *event: None)
    ack = await device.send(session, " ".join(options.text))
    print(f"{ack.session} seq {ack.seq} client_seq {ack.client_seq} message_id {ack.message_id}")
    await device.stop()


async def run_listen(options):
    device = await open_device(options, printer(), begin="joined" if options.all else "live")
    await asyncio.wait([device.keeper])
    device.keeper.result()


async def run_chat(options):
    session = session_of(options)
    device = await open_device(options, printer(session))
    print(f"  ({session}; {HELP})")
    try:
        page = await device.pull(session, 0, direction="backward", max_count=20)
        for record in page.records:
            print(describe(record))
    except Refused as refused:
        print(f"  ({refused})")  # nothing has been said yet, or the group is to be created
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            if not await obey(device, session, line.strip()):
                break
        except Refused as refused:
            print(f"  (refused: {refused})")
    await device.stop()


async def obey(device, session, line):
    """Carries out one line of a chat; false to end it."""
    command, *names = line.split() or [""]
    changes = {"/create": CREATE_GROUP, "/add": ADD_MEMBERS, "/remove": REMOVE_MEMBERS}
    if command == "/quit":
        return False
    if command in changes:
        await device.change(changes[command], session, names)
    elif command == "/leave":
        await device.change(REMOVE_MEMBERS, session, [device.user])
    elif command == "/members":
        page = await device.ask(LIST_MEMBERS, session=session, after=None, limit=1000)
        print(f"  ({page.total}: {', '.join(page.users)}{' …' if page.more else ''})")
    elif command.startswith("/"):
        print(f"  ({HELP})")
    elif line:
        ack = await device.send(session, line)
        await device.ask(READ, session=session, seq=ack.seq)  # who answers has read what is above
    return True


async def run_smoke(options):
    if len(options.addr) < 2:
        sys.exit("smoke needs two nodes: --addr twice")
    await smoke.run(options.addr, options.token.encode())


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    vectors = commands.add_parser("vectors", help="check this client against the test vectors")
    vectors.add_argument("folder")
    for name, what in {"chat": "talk", "send": "send one message", "listen": "print what arrives"}.items():
        command = commands.add_parser(name, help=what)
        command.add_argument("--user", required=True, help="who you are")
        command.add_argument("--device", help="your device; one made up for this run if not given")
        if name != "listen":
            command.add_argument("--to", metavar="USER", help="the other side of a direct session")
            command.add_argument("--group", metavar="NAME", help="a group")
    commands.choices["send"].add_argument("text", nargs="+")
    commands.choices["listen"].add_argument("--all", action="store_true", help="also what was said since you joined")
    commands.add_parser("smoke", help="two users on two nodes, every answer verified")
    for command in (commands.choices[name] for name in ("chat", "send", "listen", "smoke")):
        command.add_argument("--addr", action="append", required=True, metavar="HOST:PORT", help="a node; repeatable")
        command.add_argument("--token", default="", help="a JWT, where the cluster asks for one")
    return parser.parse_args()


async def bounded(work, seconds):
    return await asyncio.wait_for(work, seconds)


def main():
    options = parse()
    if options.command == "vectors":
        sys.exit(check_folder(options.folder) > 0)
    run = {"chat": run_chat, "send": run_send, "listen": run_listen, "smoke": run_smoke}[options.command]
    bound = {"send": 30, "smoke": 90}.get(options.command)  # seconds; the others last as long as people want
    try:
        asyncio.run(bounded(run(options), bound))
    except KeyboardInterrupt:
        sys.exit(130)
    except (Refused, Lost, smoke.Surprise) as reason:
        sys.exit(f"{options.command}: {reason}")
    except asyncio.TimeoutError:
        sys.exit(f"{options.command}: not done within {bound} seconds")


if __name__ == "__main__":
    main()
