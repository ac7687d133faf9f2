"""Builds the native extensions; everything else is said in pyproject.toml."""

import os
import subprocess
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

NATIVE = "fluidfs/_native"

# What `make sanitize` adds, for instance "-fsanitize=address,undefined".
SANITIZE = os.environ.get("FLUIDFS_SANITIZE", "").split()


def pkg_config(package: str, what: str) -> list[str]:
    """The flags of a system library; a missing one stops the build with the name of what to install."""
    try:
        return subprocess.check_output(["pkg-config", what, package], text=True).split()
    except (OSError, subprocess.CalledProcessError) as error:
        debian = {"openssl": "libssl-dev", "libxxhash": "libxxhash-dev"}[package]
        raise SystemExit(f"fluidfs needs {package} to build: apt-get install pkg-config {debian}") from error


def extension(
    name: str, sources: list[str], *, libraries: tuple[str, ...] = (), headers: tuple[str, ...] = ()
) -> Extension:
    """`name.pyx` with its C sources; `libraries` are linked, of `headers` only what they declare is compiled in."""
    compile_args = ["-O3", "-g", "-std=c11", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-pthread", "-fvisibility=hidden"]
    compile_args += SANITIZE
    link_args = ["-pthread", *SANITIZE]
    for library in (*libraries, *headers):
        compile_args += pkg_config(library, "--cflags")
    for library in libraries:
        link_args += pkg_config(library, "--libs")
    # Cython's own output trips these two; ours does not.
    compile_args += ["-Wno-unused-function", "-Wno-unused-parameter"]
    return Extension(
        f"fluidfs._native.{name}",
        [f"{NATIVE}/{name}.pyx", *(f"{NATIVE}/{source}" for source in sources)],
        include_dirs=[NATIVE],
        # setuptools does not see what a source includes.
        depends=sorted(glob(f"{NATIVE}/*.h")),
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


# From the threads down to the bytes.
ENGINE = [
    *("fetch_engine.c", "waiter.c", "source.c", "delivery.c", "file_source.c", "http_source.c"),
    *("http_request.c", "sigv4.c", "signer.c", "http_answer.c", "http_reader.c", "http_response.c", "http_chunked.c"),
    *("s3_error.c", "connection_pool.c", "dialer.c", "resolver.c", "tls.c", "connection.c"),
]

OBJECTS = ["object_open.c", "object_read.c", "object_seal.c", "object_sink.c", "object_block.c", "map_guard.c"]

CONTENTS = ["content.c", "content_read.c", "slab.c"]

NAMES = [
    *("name_table.c", "name_directory.c", "name_learn.c", "name_content.c", "name_upkeep.c", "name_path.c"),
    *("name_nodes.c", "name_hash.c", "listing.c"),
]

# The data plane: from its life down to what it decides. It reads the names, and the parts of the cache.
RELAY = [
    *("relay_life.c", "relay_serve.c", "relay_names.c", "relay_files.c", "relay_workers.c", "relay_pair.c"),
    *("relay_notify.c", "relay_watch.c", "relay_reply.c", "relay_facts.c", "handles.c"),
    *("parking.c", "parking_queues.c", "fuse_init.c", "read_window.c"),
]

EXTENSIONS = [
    extension("sink", []),
    extension("usage", ["map_guard.c"]),
    extension("objects", OBJECTS, headers=("libxxhash",)),
    extension("slabs", ["slab.c", "map_guard.c"], headers=("libxxhash",)),
    extension("contents", [*CONTENTS, *OBJECTS], headers=("libxxhash",)),
    extension("names", [*NAMES, "content.c"], headers=("libxxhash",)),
    extension("relay", [*RELAY, *NAMES, *CONTENTS, *OBJECTS], headers=("libxxhash",)),
    extension("protocol", ["fuse_init.c", "read_window.c"]),
    extension("engine", ENGINE, libraries=("openssl",)),
]

setup(
    ext_modules=cythonize(
        EXTENSIONS,
        build_dir="build/cython",
        include_path=["."],
        compiler_directives={"language_level": 3, "binding": True},
    ),
)
