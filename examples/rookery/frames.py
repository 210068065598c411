"""Frames: sections 2, 4 and 5 of docs/protocol.md. Every kind of frame is a constant that knows its fields."""

import struct
from typing import NamedTuple

from .values import BOOL, BYTES, NAME, SESSION, U8, U16, U32, U64
from .values import Enumeration, Fixed, ListOf, OptionOf, Struct, Tuple, encode

EXTENSION = Struct(tag=U16, data=BYTES)
RECORD = Struct(
    seq=U64, message_id=U64, time_ms=U64, count=U64, sender=NAME, device=NAME, epoch=U32, client_seq=U64,
    kind=U16, content_type=BYTES, content=BYTES, extensions=ListOf(EXTENSION),
)  # fmt: skip
SIGNAL = Struct(users=ListOf(NAME))
TARGET = Struct(seq=U64)
REWRITTEN = Struct(by=NAME, time_ms=U64, seq=U64)
VERSION = Struct(number=U64, kept=U64)
MEMBER_ROLE = Enumeration("member", "admin", "owner")
WHO = Enumeration("all", "admins")
JOIN = Enumeration("closed", "request", "open")
POLICY = Struct(write=WHO, invite=WHO, change=WHO, history_before_joining=BOOL, join=JOIN)
EXPIRES = Struct(after_ms=U64)
BURNS = Struct(after_ms=U64)
RETENTION = Struct(age_ms=U64, count=U64)
GROUP_ACTION = Enumeration(
    "set_profile", "set_attribute", "set_role", "hand_over", "set_policy", "mute", "mute_all", "dissolve",
    "set_retention", "answer", "make_code", "revoke_code", "bar", "asked",
    "keep_versions",
    set_profile=Struct(name=OptionOf(BYTES), avatar=OptionOf(BYTES)),
    set_attribute=Struct(key=NAME, value=OptionOf(BYTES)),
    set_role=Struct(user=NAME, role=MEMBER_ROLE),
    hand_over=Struct(user=NAME),
    set_policy=POLICY,
    mute=Struct(user=NAME, until_ms=U64),
    mute_all=Struct(on=BOOL),
    set_retention=RETENTION,
    answer=Struct(user=NAME, accept=BOOL),
    make_code=Struct(hash=BYTES, until_ms=U64, uses=U32),
    revoke_code=Struct(id=U64),
    bar=Struct(user=NAME, on=BOOL),
    asked=Struct(user=NAME),
    keep_versions=Struct(on=BOOL),
)  # fmt: skip
SESSION_SETTING = Enumeration(
    "pin", "mute", "hide", "mark_unread", "draft",
    pin=OptionOf(U64), mute=U64, hide=OptionOf(U64), mark_unread=BOOL, draft=BYTES,
)  # fmt: skip
ABOUT = Struct(user=NAME)
SHOW_TO = Enumeration("all", "friends", "nobody")
USER_ACTION = Enumeration(
    "set_session", "read_all", "clear_session", "delete_messages", "request_friend", "accept_friend",
    "decline_friend", "remove_friend", "set_remark", "block", "unblock", "set_strangers", "name_device", "end_device",
    "set_privacy",
    set_session=Struct(session=SESSION, setting=SESSION_SETTING),
    clear_session=Struct(session=SESSION, seq=U64),
    delete_messages=Struct(session=SESSION, from_seq=U64, to_seq=U64),
    request_friend=Struct(user=NAME, text=BYTES),
    accept_friend=ABOUT, decline_friend=ABOUT, remove_friend=ABOUT, block=ABOUT, unblock=ABOUT,
    set_remark=Struct(user=NAME, remark=BYTES),
    set_strangers=Struct(refuse=BOOL),
    name_device=Struct(device=NAME, name=BYTES),
    end_device=Struct(device=NAME),
    set_privacy=Struct(receipts=SHOW_TO, presence=SHOW_TO),
)  # fmt: skip
SETTINGS = Struct(
    pinned=OptionOf(U64), muted_until_ms=U64, hidden_count=OptionOf(U64), marked_unread=BOOL, draft=BYTES,
    cleared_seq=U64, deleted=ListOf(Tuple(U64, U64)),
)  # fmt: skip
BADGE = Struct(unread=U64, muted=U64, uncounted=U32)
RELATION_STATE = Enumeration("none", "requested", "asked", "friends")
RELATION_FIELDS = dict(user=NAME, state=RELATION_STATE, blocked=BOOL, remark=BYTES, text=BYTES, since_ms=U64)
PREVIEW = Struct(seq=U64, time_ms=U64, sender=NAME, kind=U16, content_type=BYTES, content=BYTES)
SUMMARY = Struct(
    session=SESSION, members=U32, first_seq=U64, last_seq=U64, count=U64, unread=U64, joined_seq=U64,
    read_seq=U64, delivered_seq=U64, last_client_seq=U64, live_from=U64, time_ms=U64, last=OptionOf(PREVIEW),
    settings=SETTINGS,
)  # fmt: skip


class Kind(NamedTuple):
    number: int
    name: str
    body: Struct


KINDS = {}


def kind(number, name, /, **fields):  # a field may be called name
    KINDS[number] = Kind(number, name, Struct(**fields))
    return KINDS[number]


CHANGE = dict(session=SESSION, client_seq=U64, on_behalf_of=OptionOf(NAME), users=ListOf(NAME))
ROLE = Enumeration("user", "service")
DIRECTION = Enumeration("forward", "backward")
CONSISTENCY = Enumeration("linearizable", "at_least", "replica", at_least=U64)
RELATION_FILTER = Enumeration("all", "friends", "requests", "blocked")
RETRY = Enumeration("never", "after", "reconnect", after=U32)

HELLO = kind(1, "HELLO", min_version=U8, max_version=U8, user=NAME, device=NAME, epoch=U32, nonce=U64,
             role=ROLE, token=BYTES, agent=BYTES, platform=BYTES)  # fmt: skip
SEND = kind(2, "SEND", session=SESSION, client_seq=U64, on_behalf_of=OptionOf(NAME), content_type=BYTES,
            content=BYTES, extensions=ListOf(EXTENSION))  # fmt: skip
DELIVERED = kind(3, "DELIVERED", cursors=ListOf(Tuple(SESSION, U64)))
PULL = kind(4, "PULL", session=SESSION, from_seq=U64, direction=DIRECTION, max_count=U32, max_bytes=U32,
            consistency=CONSISTENCY)  # fmt: skip
SYNC = kind(5, "SYNC", after=BYTES, limit=U32, since=BYTES)
READ = kind(6, "READ", session=SESSION, seq=U64)
CREATE_GROUP = kind(7, "CREATE_GROUP", **CHANGE)
ADD_MEMBERS = kind(8, "ADD_MEMBERS", **CHANGE)
REMOVE_MEMBERS = kind(9, "REMOVE_MEMBERS", **CHANGE)
LIST_MEMBERS = kind(10, "LIST_MEMBERS", session=SESSION, after=OptionOf(NAME), limit=U32)
PING = kind(11, "PING")
RECALL = kind(12, "RECALL", session=SESSION, client_seq=U64, on_behalf_of=OptionOf(NAME), seq=U64)
EDIT = kind(13, "EDIT", session=SESSION, client_seq=U64, on_behalf_of=OptionOf(NAME), seq=U64, content_type=BYTES,
            content=BYTES, extensions=ListOf(EXTENSION))  # fmt: skip
MANAGE_GROUP = kind(14, "MANAGE_GROUP", session=SESSION, client_seq=U64, on_behalf_of=OptionOf(NAME),
                    action=GROUP_ACTION)  # fmt: skip
GROUP_INFO = kind(15, "GROUP_INFO", session=SESSION)
LIST_ROLES = kind(16, "LIST_ROLES", session=SESSION, after=OptionOf(NAME), limit=U32)
MANAGE_SELF = kind(17, "MANAGE_SELF", number=U64, on_behalf_of=OptionOf(NAME), action=USER_ACTION)
LIST_RELATIONS = kind(18, "LIST_RELATIONS", on_behalf_of=OptionOf(NAME), which=RELATION_FILTER, after=OptionOf(NAME),
                      limit=U32)  # fmt: skip
LIST_DEVICES = kind(19, "LIST_DEVICES", on_behalf_of=OptionOf(NAME), after=OptionOf(NAME), limit=U32)
RECEIPTS = kind(20, "RECEIPTS", session=SESSION, seq=U64, which=Enumeration("read", "unread"),
                after=OptionOf(NAME), limit=U32)  # fmt: skip
PASSING = Enumeration("content", "typing", content=Struct(content_type=BYTES, content=BYTES),
                      typing=Struct(on=BOOL))  # fmt: skip
EPHEMERAL = kind(21, "EPHEMERAL", session=SESSION, on_behalf_of=OptionOf(NAME), body=PASSING)
WATCH = kind(22, "WATCH", mode=Enumeration("replace", "add", "remove"), users=ListOf(NAME))
WATCH_SESSION = kind(31, "WATCH_SESSION", session=SESSION, on=BOOL)
DIGEST = kind(23, "DIGEST", session=SESSION, seq=U64, consistency=CONSISTENCY)
LIST_REQUESTS = kind(24, "LIST_REQUESTS", session=SESSION, which=Enumeration("asking", "barred"), after=OptionOf(NAME),
                     limit=U32)  # fmt: skip
LIST_CODES = kind(25, "LIST_CODES", session=SESSION, after=U64, limit=U32)
JOIN_GROUP = kind(26, "JOIN_GROUP", session=SESSION, client_seq=U64, on_behalf_of=OptionOf(NAME),
                  code=OptionOf(BYTES), text=BYTES)  # fmt: skip
MEMBERS_OF = Struct(group=NAME, users=ListOf(NAME))
MESSAGE_FIELDS = dict(content_type=BYTES, content=BYTES, extensions=ListOf(EXTENSION))
ADMIN_ACTION = Enumeration(
    "send", "recall", "edit", "create_group", "add_members", "remove_members", "manage", "own", "create_user",
    "sessions",
    send=Struct(session=SESSION, **MESSAGE_FIELDS),
    recall=Struct(session=SESSION, seq=U64),
    edit=Struct(session=SESSION, seq=U64, **MESSAGE_FIELDS),
    create_group=MEMBERS_OF, add_members=MEMBERS_OF, remove_members=MEMBERS_OF,
    manage=Struct(group=NAME, action=GROUP_ACTION),
    own=USER_ACTION,
    create_user=Struct(user=NAME),
    sessions=Struct(after=OptionOf(SESSION), limit=U32),
)  # fmt: skip
ADMIN = kind(28, "ADMIN", key=NAME, on_behalf_of=OptionOf(NAME), action=ADMIN_ACTION)
AUDIT = kind(29, "AUDIT", after=U64, limit=U32)
LIST_VERSIONS = kind(30, "LIST_VERSIONS", session=SESSION, seq=U64, before=U64, limit=U32)
LIMITS = Struct(frame=U32, content=U32, window=U32, page=U32)
WELCOME = kind(129, "WELCOME", version=U8, cluster=Fixed(16), node=U16, epoch=U32, time_ms=U64, idle_ms=U32,
               limits=LIMITS, last_number=U64, deadline_ms=U32)  # fmt: skip
ACK = kind(130, "ACK", session=SESSION, client_seq=U64, seq=U64, message_id=U64, time_ms=U64, count=U64)
OK = kind(131, "OK")
PAGE = kind(132, "PAGE", session=SESSION, first_seq=U64, last_seq=U64, records=ListOf(RECORD))
SYNC_PAGE = kind(133, "SYNC_PAGE", sessions=ListOf(SUMMARY), unresolved=ListOf(Tuple(SESSION, U16)), total=U32,
                 next=BYTES, badge=OptionOf(BADGE), left=ListOf(SESSION), mark=BYTES, full=BOOL)  # fmt: skip
READ_MARK = kind(134, "READ_MARK", session=SESSION, seq=U64, count=U64)
MEMBER_PAGE = kind(135, "MEMBER_PAGE", users=ListOf(NAME), more=BOOL, total=U32)
PONG = kind(136, "PONG")
MESSAGE = kind(137, "MESSAGE", session=SESSION, record=RECORD)
JOINED = kind(138, "JOINED", session=SESSION, live_from=U64)
LEFT = kind(139, "LEFT", session=SESSION)
LAGGED = kind(140, "LAGGED", sessions=ListOf(Tuple(SESSION, U64)))
GOAWAY = kind(141, "GOAWAY", code=U16, text=BYTES, after_ms=U32)
ERROR = kind(142, "ERROR", code=U16, retry=RETRY, detail=U64, text=BYTES)
GROUP = kind(143, "GROUP", session=SESSION, name=BYTES, avatar=BYTES, attributes=ListOf(Tuple(NAME, BYTES)),
             policy=POLICY, mute_all=BOOL, owner=OptionOf(NAME), role=OptionOf(MEMBER_ROLE), muted_until_ms=U64,
             members=U32, dissolved=BOOL, retention=RETENTION)  # fmt: skip
ROLE_PAGE = kind(144, "ROLE_PAGE", roles=ListOf(Struct(user=NAME, role=MEMBER_ROLE, muted_until_ms=U64)),
                 more=BOOL)  # fmt: skip
RECEIPT_COUNTS = Struct(read=U32, unread=U32, hidden=U32)
RECEIPT_PAGE = kind(150, "RECEIPT_PAGE", users=ListOf(Struct(user=NAME, read_seq=U64)),
                    unresolved=ListOf(Tuple(NAME, U16)), next=OptionOf(NAME), counts=OptionOf(RECEIPT_COUNTS))  # fmt: skip
RECEIPT = kind(151, "RECEIPT", session=SESSION, user=NAME, seq=U64)
EPHEMERAL_MESSAGE = kind(152, "EPHEMERAL_MESSAGE", session=SESSION, sender=NAME, device=NAME, time_ms=U64,
                         body=PASSING)  # fmt: skip
PRESENCE_LINE = Struct(user=NAME, online=BOOL, last_seen_ms=U64)
PRESENCE = kind(153, "PRESENCE", users=ListOf(PRESENCE_LINE))
PRESENCE_PAGE = kind(154, "PRESENCE_PAGE", users=ListOf(PRESENCE_LINE), refused=ListOf(Tuple(NAME, U16)))
SESSION_PRESENCE = kind(162, "SESSION_PRESENCE", session=SESSION, whole=BOOL, users=ListOf(PRESENCE_LINE),
                        others=U32)  # fmt: skip
DIGEST_REPLY = kind(155, "DIGEST_REPLY", session=SESSION, seq=U64, digest=Fixed(32), first_seq=U64, before=Fixed(32))
REQUEST_PAGE = kind(156, "REQUEST_PAGE", requests=ListOf(Struct(user=NAME, text=BYTES, since_ms=U64)), more=BOOL)
CODE = Struct(id=U64, maker=NAME, made_ms=U64, until_ms=U64, uses=U32, used=U32)
CODE_PAGE = kind(157, "CODE_PAGE", codes=ListOf(CODE), more=BOOL)

SESSION_SETTINGS = kind(145, "SESSION_SETTINGS", session=SESSION, settings=SETTINGS)
RELATION_PAGE = kind(146, "RELATION_PAGE", relations=ListOf(Struct(**RELATION_FIELDS)), more=BOOL,
                     refuses_strangers=BOOL, receipts=SHOW_TO, presence=SHOW_TO)  # fmt: skip
RELATION = kind(147, "RELATION", **RELATION_FIELDS)
DEVICE = Struct(device=NAME, epoch=U32, platform=BYTES, name=BYTES, agent=BYTES, seen_ms=U64)
DEVICE_PAGE = kind(148, "DEVICE_PAGE", devices=ListOf(DEVICE), more=BOOL)
SELF_ACK = kind(149, "SELF_ACK", number=U64, time_ms=U64, value=U64)

ACK_FIELDS = dict(session=SESSION, client_seq=U64, seq=U64, message_id=U64, time_ms=U64, count=U64)
USER_SESSION = Struct(session=SESSION, joined_seq=U64, read_seq=U64)
ADMIN_OUTCOME = Enumeration(
    "stored", "done", "sessions",
    stored=Struct(**ACK_FIELDS),
    done=Struct(time_ms=U64, value=U64),
    sessions=Struct(sessions=ListOf(USER_SESSION), more=BOOL),
)  # fmt: skip
ADMIN_REPLY = kind(159, "ADMIN_REPLY", key=NAME, audit=U64, outcome=ADMIN_OUTCOME)
AUDIT_LINE = Struct(
    number=U64, time_ms=U64, service=NAME, device=NAME, on_behalf_of=OptionOf(NAME), action=U16, part=U16,
    entity=Enumeration("session", "user", session=SESSION, user=NAME), key=NAME,
)  # fmt: skip
AUDIT_PAGE = kind(160, "AUDIT_PAGE", lines=ListOf(AUDIT_LINE), first=U64, last=U64)

VERSION_LINE = Struct(
    number=U64, time_ms=U64, by=NAME, content_type=BYTES, content=BYTES, extensions=ListOf(EXTENSION),
)  # fmt: skip
VERSIONS_PAGE = kind(161, "VERSIONS_PAGE", session=SESSION, seq=U64, versions=ListOf(VERSION_LINE), more=BOOL,
                     kept=BOOL)  # fmt: skip

HEADER = struct.Struct("<IBBHI")  # length, version, kind, flags, request id
MAX_FRAME = 1 << 20


class FrameFault(Exception):
    """The stream cannot be read on; `fault` is the word of the vectors."""

    def __init__(self, fault):
        super().__init__(fault)
        self.fault = fault


def frame(kind, request_id, fields):
    body = encode(kind.body, fields)
    return HEADER.pack(8 + len(body), 1, kind.number, 0, request_id) + body


def cut_frame(buffer, limit=MAX_FRAME):
    """Takes (kind number, request id, body) off the front of a bytearray, or None until it is all there."""
    if len(buffer) < 4:
        return None
    length = int.from_bytes(buffer[:4], "little")
    if length < 8:
        raise FrameFault("too_short")
    if length > limit:
        raise FrameFault("too_large")
    if len(buffer) > 4 and buffer[4] != 1:
        raise FrameFault("version")
    if len(buffer) < 4 + length:
        return None
    _, _, number, _, request_id = HEADER.unpack_from(buffer)
    body = bytes(buffer[HEADER.size : 4 + length])
    del buffer[: 4 + length]
    return number, request_id, body
