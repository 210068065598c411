"""Checks this library against the protocol's test vectors, in both directions."""

import json
from pathlib import Path

from . import digest, frames
from .frames import KINDS, FrameFault, cut_frame, frame
from .values import SESSION, U8, U16, U32, U64, Malformed, decode, encode, unhex

TYPES = {"u8": U8, "u16": U16, "u32": U32, "u64": U64, "code": U16, "session": SESSION, "signal": frames.SIGNAL,
         "target": frames.TARGET, "rewritten": frames.REWRITTEN, "expires": frames.EXPIRES, "burns": frames.BURNS, "action": frames.GROUP_ACTION,
         "version": frames.VERSION}  # fmt: skip


def same(got, wanted, what):
    if got != wanted:
        raise ValueError(f"{what}: {got!r} instead of {wanted!r}")


def check_frame(vector):
    kind = next(kind for kind in KINDS.values() if kind.name == vector["kind"])
    fields = kind.body.plain(vector["fields"])
    data = unhex(vector["hex"])
    same(frame(kind, vector["request_id"], fields), data, "encoding")
    buffer = bytearray(data)
    number, request_id, body = cut_frame(buffer)
    same((number, request_id), (kind.number, vector["request_id"]), "header")
    same(decode(kind.body, body), fields, "decoding")
    same(buffer, b"", "what is left")


def check_value(vector):
    kind = TYPES[vector["type"]]
    value, data = kind.plain(vector["value"]), unhex(vector["hex"])
    same(encode(kind, value), data, "encoding")
    same(decode(kind, data), value, "decoding")


def check_invalid(vector):
    fault = "none"
    try:
        cut = cut_frame(bytearray(unhex(vector["hex"])), vector["max_frame"])
        if cut is None:
            fault = "incomplete"
        elif cut[0] not in KINDS:
            fault = "unknown_kind"
        else:
            decode(KINDS[cut[0]].body, cut[2])
    except (FrameFault, Malformed) as refused:
        fault = refused.fault
    same(fault, vector["fault"], "fault")


def check_digest(vector):
    session = decode(SESSION, unhex(vector["session"]))
    running = digest.begin(session)
    same(running.hex(), vector["begin"], "the digest of nothing")
    told = decode(frames.RECORD, unhex(vector["before the recall"]["hex"]))
    same(digest.content_hash(told).hex(), vector["before the recall"]["content_hash"], "hash of what was said")
    for line, wanted in zip(vector["records"], vector["digests"]):
        record = decode(frames.RECORD, unhex(line["hex"]))
        same(digest.content_hash(record).hex(), line["content_hash"], "hash of the content")
        if record.seq == told.seq:
            same(digest.after(running, told).hex(), wanted, "digest before the recall")
        running = digest.after(running, record)
        same(running.hex(), wanted, f"digest at {record.seq}")


CHECKS = {
    "requests.json": check_frame,
    "replies.json": check_frame,
    "pushes.json": check_frame,
    "values.json": check_value,
    "invalid.json": check_invalid,
    "digests.json": check_digest,
}


def check_folder(folder):
    """Checks every file; prints what failed, returns how many did."""
    failed = 0
    for name, check in CHECKS.items():
        vectors = json.loads(Path(folder, name).read_text(encoding="utf-8"))
        wrong = 0
        for vector in vectors:
            try:
                check(vector)
            except Exception as reason:  # whatever goes wrong with a vector is what is to be reported
                wrong += 1
                print(f"{name}: {vector.get('name', vector)}: {type(reason).__name__}: {reason}")
        print(f"{name}: {len(vectors) - wrong} of {len(vectors)} are right")
        failed += wrong
    return failed
