"""The format on disk: the page that describes it, the C headers, and the bytes in the files say the same."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import pytest
import xxhash

from fluidfs.cache.files import data_path, map_path
from fluidfs.cache.level import boot_id
from tests.unit.caching import BLOCK, MIB, SUB, content, level_in, put, put_small, version_named

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "fluidfs" / "_native"
PAGE = ROOT / "docs" / "reference" / "cache-format.md"

Table = list[tuple[int, int, str]]
# Each table's place: the header file, and the C struct.
TABLES = {
    "level": ("usage.h", "ff_usage"),
    "map": ("object_file.h", "ff_map_header"),
    "block": ("object_file.h", "ff_block"),
    "index": ("slab.h", "ff_slab_header"),
    "slot": ("slab.h", "ff_slot"),
}
SIZES = {"char": 1, "uint8_t": 1, "uint32_t": 4, "uint64_t": 8, "int64_t": 8}


def tables_of_comments(header: str) -> list[Table]:
    """The tables in a header's first comment; each begins at offset 0."""
    comment = (NATIVE / header).read_text().partition("*/")[0]
    rows = re.findall(r"^ \* {4,}(\d+) +(\d+) (\w+)", comment, re.MULTILINE)
    tables: list[Table] = []
    for offset, size, name in rows:
        if int(offset) == 0:
            tables.append([])
        tables[-1].append((int(offset), int(size), name))
    return tables


def table_of_struct(header: str, struct_name: str) -> Table:
    """The fields of a C struct that has no padding but what is written out."""
    source = (NATIVE / header).read_text()
    constants = {"FF_MAP_IDENTITY_OFFSET": 512, "FF_MAP_IDENTITY_BYTES": 3584}
    found = re.search(r"typedef struct \{([^}]*)\} " + struct_name + ";", source)
    assert found is not None
    fields: Table = []
    offset = 0
    for kind, name, count in re.findall(r"(?:_Atomic )?(\w+) (\w+)(?:\[([^\]]+)\])?;", found[1]):
        length = 1
        for part in (count or "1").split(" - "):
            value = constants.get(part) or int(part)
            length = value if part == (count or "1").split(" - ")[0] else length - value
        assert offset % SIZES[kind] == 0, f"{struct_name}.{name} is preceded by padding"
        fields.append((offset, SIZES[kind] * length, name))
        offset += SIZES[kind] * length
    return fields


def tables_of_page() -> list[Table]:
    tables: list[Table] = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("| Offset |"):
            tables.append([])
        row = re.match(r"\| (\d+) \| (\d+) \| `(\w+)` \|", line)
        if row is not None:
            tables[-1].append((int(row[1]), int(row[2]), row[3]))
    return tables


def described(name: str) -> Table:
    header = TABLES[name][0]
    names = [other for other in TABLES if TABLES[other][0] == header]
    return tables_of_comments(header)[names.index(name)]


@pytest.mark.parametrize("name", TABLES)
def test_the_page_the_comments_and_the_structs_agree(name: str) -> None:
    identity, level, map_, block, index, slot = tables_of_page()
    page = {"level": level, "map": map_, "block": block, "index": index, "slot": slot}[name]
    assert page == described(name)
    fields = [field for field in table_of_struct(*TABLES[name]) if (name, field[2]) != ("map", "reserved")]
    assert fields == described(name)
    assert [(offset, size) for offset, size, _ in identity] == [(0, 2), (2, 2), (4, 2), (6, 8)]


class Record:
    """Bytes read by a table of the C headers."""

    def __init__(self, name: str, data: bytes, at: int = 0) -> None:
        self.fields = {field: data[at + offset : at + offset + size] for offset, size, field in described(name)}

    def bytes(self, field: str) -> bytes:
        return self.fields[field]

    def number(self, field: str) -> int:
        return int.from_bytes(self.fields[field], "little")


IDENTITY = version_named("a/ключ", 2 * BLOCK + SUB + 1)


def encoded() -> bytes:
    """As the page says."""
    store, key, version = (part.encode() for part in (IDENTITY.store, IDENTITY.key, IDENTITY.version))
    return struct.pack("<HHHQ", len(store), len(key), len(version), IDENTITY.size) + store + key + version


def digest() -> bytes:
    """As the page says."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in (IDENTITY.store, IDENTITY.key, IDENTITY.version):
        hashed.update(struct.pack("<Q", len(part.encode())) + part.encode())
    hashed.update(struct.pack("<Q", IDENTITY.size))
    return hashed.digest()


def test_a_versions_files_are_what_the_tables_say(tmp_path: Path) -> None:
    level = level_in(tmp_path)
    stem = put(level, IDENTITY, last_use_s=1234)
    name = digest().hex()
    assert stem == tmp_path / "v1" / "objects" / name[:2] / name[2:4] / name
    file = level.open_object(IDENTITY, create=False)
    assert file is not None
    assert file.seal()
    assert file.drop_block(1, punch=False) == BLOCK
    file.sink().write(BLOCK, content(IDENTITY.size, IDENTITY.key)[BLOCK : BLOCK + 2 * SUB])
    file.close()
    raw, facts = map_path(stem).read_bytes(), data_path(stem).stat()
    assert (len(raw), facts.st_size) == (4096 + 32 * 3, IDENTITY.size)

    header = Record("map", raw)
    expected = {
        "format": 1,
        "header_bytes": 4096,
        "object_bytes": IDENTITY.size,
        "block_bytes": BLOCK,
        "sub_block_bytes": SUB,
        "block_count": 3,
        "last_use_s": 1234,
        "sealed": 2,
        "identity_bytes": len(encoded()),
        "seal_inode": facts.st_ino,
        "identity_checksum": xxhash.xxh3_64_intdigest(raw[8:40] + struct.pack("<I", len(encoded())) + encoded()),
    }
    assert {field: header.number(field) for field in expected} == expected
    assert header.bytes("magic") == b"FLUIDMAP"
    assert header.bytes("boot_id") == header.bytes("seal_boot_id") == boot_id()
    assert header.bytes("identity") == encoded().ljust(3584, b"\0")
    assert raw[120:512] == bytes(392)

    blocks = [Record("block", raw, 4096 + 32 * index) for index in range(3)]
    data = content(IDENTITY.size, IDENTITY.key)
    assert [block.number("bits") for block in blocks] == [(1 << 64) - 1, 0b11, 0b11]
    assert [block.number("state") for block in blocks] == [1, 0, 1]
    assert [block.number("drops") for block in blocks] == [0, 1, 0]
    assert [block.number("pins") for block in blocks] == [0, 0, 0]
    assert blocks[0].number("checksum") == xxhash.xxh3_64_intdigest(data[:BLOCK])
    assert blocks[2].number("checksum") == xxhash.xxh3_64_intdigest(data[2 * BLOCK :])


def test_a_seal_is_what_the_table_says(tmp_path: Path) -> None:
    level = level_in(tmp_path)
    stem = put(level, IDENTITY)
    file = level.open_object(IDENTITY, create=False)
    assert file is not None
    assert file.seal()
    header, facts = Record("map", map_path(stem).read_bytes()), data_path(stem).stat()
    assert header.number("sealed") == 1
    assert header.number("seal_mtime_ns") == facts.st_mtime_ns
    assert header.number("seal_ctime_ns") == facts.st_ctime_ns


def test_a_slabs_files_are_what_the_tables_say(tmp_path: Path) -> None:
    level = level_in(tmp_path)
    identities = [version_named(f"small {number}", 100 + number) for number in range(20)]
    for identity in identities:
        put_small(level, identity)
    [slab] = level.slabs
    slab.touch(1234)
    raw = (level.files.slabs / "1.idx").read_bytes()
    data = (level.files.slabs / "1.slab").read_bytes()
    header = Record("index", raw)
    assert header.bytes("magic") == b"FLUIDSLB"
    assert header.bytes("boot_id") == boot_id()
    slot_count = header.number("slot_count")
    assert slot_count & (slot_count - 1) == 0
    assert len(raw) == 4096 + 64 * slot_count
    assert raw[64:4096] == bytes(4032)
    found = [header.number(field) for field in ("format", "capacity_bytes", "last_use_s", "used_slots", "reserved")]
    assert found == [1, 4 * MIB, 1234, 20, 0]
    assert header.number("tail") == slab.used_bytes
    for identity in identities:
        slot = slot_of(raw, slot_count, identity.digest())
        offset, length, before = (slot.number(field) for field in ("offset", "length", "identity_bytes"))
        assert data[offset : offset + length] == content(identity.size, identity.key)
        assert data[offset - before : offset] == identity.encode()
        assert (offset - before) % 64 == 0
        assert slot.number("checksum") == xxhash.xxh3_64_intdigest(data[offset : offset + length])
        assert slot.bytes("reserved") == bytes(24)
    slab.retire()
    tail = Record("index", (level.files.slabs / "1.idx").read_bytes()).number("tail")
    assert tail == slab.used_bytes | 1 << 63


def slot_of(raw: bytes, slot_count: int, key: bytes) -> Record:
    """The look-up that the page describes."""
    first = int.from_bytes(key[:8], "little")
    for step in range(128):
        slot = Record("slot", raw, 4096 + 64 * ((first + step) % slot_count))
        assert slot.number("state") != 0, "an empty slot ends the search"
        if slot.number("state") == 2 and slot.bytes("key") == key:
            return slot
    raise AssertionError("not found")


def test_the_level_file_is_what_the_table_says(tmp_path: Path) -> None:
    level = level_in(tmp_path)
    put(level, IDENTITY)
    put_small(level, version_named("small", 100))
    level.usage.count_evicted(77)
    record = Record("level", (tmp_path / "v1" / "level").read_bytes())
    assert record.bytes("magic") == b"FLUIDLVL"
    expected = {
        "format": 1,
        "reserved": 0,
        "used_bytes": level.usage.used_bytes,
        "quota_bytes": 64 * MIB,
        "high_bytes": level.usage.high_bytes,
        "low_bytes": level.usage.low_bytes,
        "slab_generation": 1,
        "evicted_bytes": 77,
        "bad_blocks": 0,
    }
    assert {field: record.number(field) for field in expected} == expected
    assert level.usage.used_bytes > IDENTITY.size
