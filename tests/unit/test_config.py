"""Options: where a value may come from, which place wins, and what a bad one is answered with."""

import pytest

from fluidfs._native.relay import FEATURES
from fluidfs.config import LevelSpec, MountOptions
from fluidfs.config.mount_o import split_mount_options
from fluidfs.config.resolve import Caller, Given, resolve, resolve_levels
from fluidfs.config.table import OPTIONS
from fluidfs.config.values import FUSE_FEATURES
from fluidfs.errors import UsageError

CALLER = Caller(uid=1000, gid=100, home="/home/ann", directory="/home/ann/here", cache_home="/home/ann/.cache")


def options_of(source: str = "s3://bucket", mountpoint: str = "/mnt", **given: object) -> MountOptions:
    return resolve(source=source, mountpoint=mountpoint, given=Given(**given), caller=CALLER)  # type: ignore[arg-type]


def refusal_of(source: str = "s3://bucket", mountpoint: str = "/mnt", **given: object) -> str:
    with pytest.raises(UsageError) as caught:
        options_of(source, mountpoint, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_given_means_the_defaults_and_the_callers_own_files() -> None:
    options = options_of()
    assert options == MountOptions(
        source="s3://bucket",
        mountpoint="/mnt",
        uid=1000,
        gid=100,
        cache=(LevelSpec("/home/ann/.cache/fluidfs", None, "SSD"),),
    )


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default() -> None:
    flag = {"flags": {"block-size": "1M"}}
    environment = {"environment": {"FLUIDFS_BLOCK_SIZE": "2M"}}
    file = {"file": {"block-size": "8M"}, "file_name": "f.yaml"}
    assert options_of(**flag, **environment, **file).block_size == 1 << 20
    assert options_of(mount_options=["block_size=1M"], **environment, **file).block_size == 1 << 20
    assert options_of(**environment, **file).block_size == 2 << 20
    assert options_of(**file).block_size == 8 << 20
    assert options_of().block_size == 4 << 20


def test_a_flag_beats_the_same_name_after_o() -> None:
    assert options_of(flags={"region": "eu-west-1"}, mount_options=["region=us-east-1"]).region == "eu-west-1"


def test_a_switch_of_the_file_can_be_taken_back_by_a_flag() -> None:
    file = {"file": {"anonymous": "yes"}, "file_name": "f.yaml"}
    assert options_of(**file).anonymous
    assert not options_of(flags={"anonymous": "false"}, **file).anonymous
    assert not options_of(mount_options=["noanonymous"], **file).anonymous


def test_an_empty_variable_is_an_unset_one() -> None:
    assert options_of(environment={"FLUIDFS_REGION": ""}).region is None


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ({"flags": {"block-size": "3M"}}, "--block-size: '3M'"),
        ({"mount_options": ["ro,block_size=3M"]}, "-o block-size: '3M'"),
        ({"environment": {"FLUIDFS_BLOCK_SIZE": "3M"}}, "environment FLUIDFS_BLOCK_SIZE: '3M'"),
        ({"file": {"block_size": "3M"}, "file_name": "/etc/f.yaml"}, "/etc/f.yaml: block_size: '3M'"),
    ],
)
def test_a_bad_value_is_answered_with_where_it_is_and_what_is_allowed(given: dict[str, object], origin: str) -> None:
    assert refusal_of(**given) == f"{origin} is not a power of two from 256K to 64M"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("endpoint-url", "localhost:9000"),
        ("endpoint-url", "ftp://host"),
        ("endpoint-url", "http://"),
        ("endpoint-url", "http://host:99999"),
        ("proxy", "http://user:secret@host:3128"),
        ("proxy", "https://host:3128"),
        ("uid", "ann"),
        ("file-mode", "0888"),
        ("verify", "sometimes"),
        ("streams", "-1"),
        ("memory", "1M"),
        ("metadata-ttl", "soon"),
        ("metrics", "9090"),
        ("log-level", "loud"),
        ("cache", "/a:lots"),
        ("cache", "/a:SSD"),
        ("cache", ":10G"),
        ("cache", "/a:1K"),
        ("anonymous", "maybe"),
        ("region", ""),
        ("region", "eu\nwest"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(name: str, text: str) -> None:
    assert refusal_of(flags={name: text}).startswith(f"--{name}: ")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("/ssd", LevelSpec("/ssd", None, "SSD")),
        ("/ssd:200G", LevelSpec("/ssd", 200 << 30, "SSD")),
        ("/hdd:1.5T:hdd", LevelSpec("/hdd", 3 << 39, "HDD")),
        ("/shm::MEM", LevelSpec("/shm", None, "MEM")),
        ("/a:b:1G:SSD", LevelSpec("/a:b", 1 << 30, "SSD")),
        ("~/c", LevelSpec("/home/ann/c", None, "SSD")),
        ("c/../d", LevelSpec("/home/ann/here/d", None, "SSD")),
    ],
)
def test_a_level_is_a_path_with_a_quota_with_a_medium(text: str, level: LevelSpec) -> None:
    assert options_of(flags={"cache": [text]}).cache == (level,)


def test_levels_come_from_every_place_as_lists() -> None:
    levels = (LevelSpec("/m", 1 << 30, "MEM"), LevelSpec("/d", None, "HDD"))
    texts = ["/m:1G:MEM", "/d::HDD"]
    assert options_of(flags={"cache": texts}).cache == levels
    assert options_of(mount_options=["cache=/m:1G:MEM,ro", "cache=/d::HDD"]).cache == levels
    assert options_of(environment={"FLUIDFS_CACHE": ",".join(texts)}).cache == levels
    assert options_of(file={"cache": texts}, file_name="f").cache == levels
    assert resolve_levels(texts, environment={}, caller=CALLER) == levels
    assert resolve_levels([], environment={"FLUIDFS_CACHE": "/e"}, caller=CALLER) == (LevelSpec("/e"),)


def test_every_path_is_absolute_since_the_daemon_leaves_the_directory() -> None:
    options = options_of(
        mountpoint="mnt/", flags={"ca-bundle": "ca.pem", "sse-c": "~/key", "log-file": "../log", "cache": ["c"]}
    )
    assert (options.mountpoint, options.ca_bundle) == ("/home/ann/here/mnt", "/home/ann/here/ca.pem")
    assert (options.sse_c_key_file, options.log_file) == ("/home/ann/key", "/home/ann/log")


def test_the_addressing_has_two_names_and_the_stronger_place_decides() -> None:
    file = {"file": {"virtual-style": "true"}, "file_name": "f.yaml"}
    assert options_of(**file).addressing == "virtual"
    assert options_of(flags={"path-style": "true"}, **file).addressing == "path"
    assert options_of(flags={"path-style": "false"}).addressing is None
    assert "leave one out" in refusal_of(flags={"path-style": "true", "virtual-style": "true"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"flags": {"read-only": "false"}}, "mounts read-only"),
        ({"flags": {"anonymous": "true", "profile": "p"}}, "--anonymous with --profile"),
        (
            {"flags": {"anonymous": "true"}, "environment": {"FLUIDFS_REQUEST_PAYER": "1"}},
            "environment FLUIDFS_REQUEST_PAYER",
        ),
        ({"source": "file:///d", "flags": {"region": "r"}}, "s3:// sources only"),
        ({"flags": {"memory": "16M", "block-size": "16M"}}, "must hold two blocks"),
        ({"flags": {"readahead": "256M"}}, "raise --memory or lower --readahead"),
        ({"flags": {"cache": ["/d::HDD", "/m::MEM"]}}, "the fastest level comes first"),
        ({"flags": {"cache": ["/d", "/d/e"]}}, "one inside the other"),
        ({"flags": {"cache": ["/mnt/cache"]}}, "inside the mountpoint"),
    ],
)
def test_a_foolish_mix_is_refused_with_one_line(given: dict[str, object], words: str) -> None:
    assert words in refusal_of(**given)  # type: ignore[arg-type]


def test_an_environment_for_s3_does_not_forbid_other_sources() -> None:
    assert options_of("file:///d", environment={"FLUIDFS_REGION": "eu-west-1"}).region == "eu-west-1"


def test_a_readahead_nobody_asked_for_shrinks_with_the_memory() -> None:
    assert options_of(flags={"memory": "32M"}).readahead_bytes == 16 << 20
    assert options_of(flags={"memory": "1G"}).readahead_bytes == 64 << 20
    assert options_of(flags={"memory": "32M", "readahead": "32M"}).readahead_bytes == 32 << 20


def test_what_fstab_says_to_mount_itself_is_passed_over() -> None:
    text = "rw,dev,suid,exec,auto,noauto,user,users,nofail,_netdev,defaults,x-systemd.automount,relatime,noatime"
    assert split_mount_options(text) == []
    assert split_mount_options("ro,allow_other,uid=5,no-log-json,config=/c,,") == [
        ("read-only", "true"),
        ("allow-other", "true"),
        ("uid", "5"),
        ("log-json", "false"),
        ("config", "/c"),
    ]


def test_a_comma_in_a_value_is_escaped_as_libfuse_has_it() -> None:
    assert split_mount_options(r"cache=/a\,b:1G,ro") == [("cache", "/a,b:1G"), ("read-only", "true")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("block_sise=1M", "did you mean block-size?"),
        ("region", "needs a value"),
        ("remount", "umount it"),
        ("gibberish", "no such"),
    ],
)
def test_an_unknown_word_after_o_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match="-o ") as caught:
        split_mount_options(text)
    assert words in str(caught.value)


def test_a_sloppy_mount_drops_unknown_words() -> None:
    assert split_mount_options("gibberish,ro", sloppy=True) == [("read-only", "true")]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"blok-size": "1M"}, "did you mean block-size?"),
        ({"region": ["a", "b"]}, "one value is wanted"),
        ({"cache": {"path": "/a"}}, "a list of values is wanted"),
    ],
)
def test_a_file_with_a_wrong_key_or_shape_is_refused_by_name(file: dict[str, object], words: str) -> None:
    assert words in refusal_of(file=file, file_name="f.yaml")


def test_every_row_of_the_table_fills_a_field_that_mount_options_has() -> None:
    fields = set(MountOptions.__dataclass_fields__) | {"path_style", "virtual_style"}
    assert {option.field for option in OPTIONS} <= fields
    assert fields - {option.field for option in OPTIONS} == {"source", "mountpoint", "addressing"}


def test_features_of_fuse_are_switched_off_by_name() -> None:
    assert options_of().fuse_disable == frozenset()
    assert options_of(flags={"fuse-disable": "relay"}).fuse_disable == {"relay"}
    assert options_of(environment={"FLUIDFS_FUSE_DISABLE": "passthrough,clone"}).fuse_disable == {
        "passthrough",
        "clone",
    }
    # mount(8) keeps the commas of -o to itself.
    assert options_of(mount_options=["ro,fuse-disable=resend:idmap"]).fuse_disable == {"resend", "idmap"}
    assert "'splice' is not one of relay, passthrough" in refusal_of(flags={"fuse-disable": "clone,splice"})


def test_the_features_that_can_be_switched_off_are_those_of_the_data_plane_and_itself() -> None:
    assert set(FUSE_FEATURES) == FEATURES | {"relay"}
