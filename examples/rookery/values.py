"""Values: section 3 of docs/protocol.md.

Each type can write a value, read one, and take one from the JSON notation of the test vectors (`plain`).
"""

import re
import struct
from types import SimpleNamespace
from typing import NamedTuple


class Malformed(Exception):
    """The bytes are not what they should be."""

    fault = "malformed"


class Trailing(Malformed):
    """Bytes are left over after a body."""

    fault = "trailing"


class Reader:
    """Takes bytes off the front of a body."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        if count > self.left():
            raise Malformed(f"{count} bytes wanted, {self.left()} there")
        self.at += count
        return self.data[self.at - count : self.at]


class Byte:
    """u8: one byte, never a varint."""

    def write(self, out, value):
        out.append(value)

    def read(self, reader):
        return reader.take(1)[0]

    def plain(self, value):
        return int(value)


class Varint(Byte):
    """u16, u32, u64: one byte below 251, else a marker and the value in 2, 4 or 8 bytes."""

    FORMS = ((0xFB, "<H"), (0xFC, "<I"), (0xFD, "<Q"))

    def __init__(self, bits):
        self.forms = self.FORMS[: {16: 1, 32: 2, 64: 3}[bits]]

    def write(self, out, value):
        if 0 <= value < 251:
            return out.append(value)
        for marker, form in self.forms:
            if 0 <= value < 1 << 8 * struct.calcsize(form):
                out.append(marker)
                return out.extend(struct.pack(form, value))
        raise ValueError(f"{value} does not fit")

    def read(self, reader):
        first = reader.take(1)[0]
        if first < 251:
            return first
        for marker, form in self.forms:
            if first == marker:
                return struct.unpack(form, reader.take(struct.calcsize(form)))[0]
        raise Malformed(f"marker {first:#x} in an integer")


class Bool(Byte):
    def read(self, reader):
        byte = reader.take(1)[0]
        if byte > 1:
            raise Malformed(f"bool {byte}")
        return byte == 1

    def plain(self, value):
        return bool(value)


class Bytes:
    def write(self, out, value):
        U64.write(out, len(value))
        out.extend(value)

    def read(self, reader):
        return reader.take(U64.read(reader))

    def plain(self, value):
        return value.encode() if isinstance(value, str) else unhex(value["hex"])


class Fixed(Bytes):
    """A known number of bytes, without a length."""

    def __init__(self, size):
        self.size = size

    def write(self, out, value):
        out.extend(value)

    def read(self, reader):
        return reader.take(self.size)


class Name(Bytes):
    """A user, device or group: 1 to 64 bytes of UTF-8 without control characters."""

    CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

    def write(self, out, value):
        super().write(out, value.encode())

    def read(self, reader):
        data = super().read(reader)
        try:
            name = data.decode()
        except UnicodeDecodeError as fault:
            raise Malformed(str(fault)) from None
        if not 1 <= len(data) <= 64 or self.CONTROL.search(name):
            raise Malformed(f"no name: {name!r}")
        return name

    def plain(self, value):
        return value


class ListOf:
    def __init__(self, item):
        self.item = item

    def write(self, out, value):
        U64.write(out, len(value))
        for item in value:
            self.item.write(out, item)

    def read(self, reader):
        count = U64.read(reader)
        if count > reader.left():  # every item has at least one byte
            raise Malformed(f"a list of {count} in {reader.left()} bytes")
        return [self.item.read(reader) for _ in range(count)]

    def plain(self, value):
        return [self.item.plain(item) for item in value]


class OptionOf:
    def __init__(self, item):
        self.item = item

    def write(self, out, value):
        out.append(value is not None)
        if value is not None:
            self.item.write(out, value)

    def read(self, reader):
        return self.item.read(reader) if BOOL.read(reader) else None

    def plain(self, value):
        return None if value is None else self.item.plain(value)


class Tuple:
    def __init__(self, *items):
        self.items = items

    def write(self, out, value):
        for item, part in zip(self.items, value):
            item.write(out, part)

    def read(self, reader):
        return tuple(item.read(reader) for item in self.items)

    def plain(self, value):
        return tuple(item.plain(part) for item, part in zip(self.items, value))


class Enumeration:
    """A variant by name; one with a field is a pair of name and value."""

    def __init__(self, *variants, **with_field):
        self.variants = variants  # names in the order of their numbers
        self.fields = with_field  # name of a variant -> type of its field

    def write(self, out, value):
        name, field = value if isinstance(value, tuple) else (value, None)
        U32.write(out, self.variants.index(name))
        if name in self.fields:
            self.fields[name].write(out, field)

    def read(self, reader):
        number = U32.read(reader)
        if number >= len(self.variants):
            raise Malformed(f"variant {number}")
        name = self.variants[number]
        return (name, self.fields[name].read(reader)) if name in self.fields else name

    def plain(self, value):
        if isinstance(value, str):
            return value
        ((name, field),) = value.items()
        return name, self.fields[name].plain(field)


class Struct:
    """Fields one after another; values are namespaces."""

    def __init__(self, **fields):
        self.fields = fields

    def write(self, out, value):
        for name, kind in self.fields.items():
            kind.write(out, getattr(value, name))

    def read(self, reader):
        return SimpleNamespace(**{name: kind.read(reader) for name, kind in self.fields.items()})

    def plain(self, value):
        return SimpleNamespace(**{name: kind.plain(value[name]) for name, kind in self.fields.items()})


class Session(NamedTuple):
    """A conversation: one name for a group, two in order for a direct one."""

    names: tuple

    def __str__(self):
        if len(self.names) == 1:
            return f"group:{self.names[0]}"
        return "direct:" + ",".join(re.sub(r"([\\,])", r"\\\1", name) for name in self.names)


def group(name):
    return Session((name,))


def direct(a, b):
    return Session(tuple(sorted((a, b), key=str.encode)))


class SessionType:
    def write(self, out, value):
        out.append(0 if len(value.names) == 2 else 1)
        for name in value.names:
            NAME.write(out, name)

    def read(self, reader):
        tag = reader.take(1)[0]
        if tag > 1:
            raise Malformed(f"a session of kind {tag}")
        names = tuple(NAME.read(reader) for _ in range(2 - tag))
        if tag == 0 and names[0].encode() >= names[1].encode():
            raise Malformed("the pair is not in order")
        return Session(names)

    def plain(self, value):
        return group(value["group"]) if "group" in value else Session(tuple(value["direct"]))


U8, U16, U32, U64, BOOL = Byte(), Varint(16), Varint(32), Varint(64), Bool()
BYTES, NAME, SESSION = Bytes(), Name(), SessionType()


def encode(kind, value):
    """The bytes of a value of this type."""
    out = bytearray()
    kind.write(out, value)
    return bytes(out)


def decode(kind, data):
    """The value that these bytes are, all of them."""
    reader = Reader(data)
    value = kind.read(reader)
    if reader.left():
        raise Trailing(f"{reader.left()} bytes left over")
    return value


def unhex(text):
    """Hexadecimal as the vectors write it: `(78*300)` stands for 300 times the byte 78."""
    return bytes.fromhex(re.sub(r"\((..)\*(\d+)\)", lambda run: run[1] * int(run[2]), text))
