"""The digest of a session: the section "Digest" of docs/protocol.md."""

import hashlib

from .frames import EXTENSION, RECORD
from .values import BYTES, SESSION, U16, encode

REWRITTEN, SALT, CONTENT_HASH = 1, 8, 9
FIELDS = ("seq", "message_id", "time_ms", "count", "sender", "device", "epoch", "client_seq")
GONE = {6, 8, 9}  # recalled, deleted, expired: content once


def begin(session):
    """The digest before the first record."""
    return hashlib.sha256(b"rookery digest 1" + encode(SESSION, session)).digest()


def content_hash(record):
    """What a record says, as a hash: the one it carries if what it said is no more."""
    told = {extension.tag: extension.data for extension in record.extensions}
    if CONTENT_HASH in told:
        return told[CONTENT_HASH]
    hashed = hashlib.sha256(told.get(SALT, bytes(16)))
    hashed.update(encode(BYTES, record.content_type) + encode(BYTES, record.content))
    for extension in record.extensions:
        if extension.tag not in (REWRITTEN, SALT, CONTENT_HASH):
            hashed.update(encode(EXTENSION, extension))
    return hashed.digest()


def after(digest, record):
    """The digest after one more record."""
    fields = b"".join(encode(RECORD.fields[name], getattr(record, name)) for name in FIELDS)
    kind = encode(U16, 0 if record.kind in GONE else record.kind)
    return hashlib.sha256(digest + content_hash(record) + fields + kind).digest()
