"""The image, built once for all tests here, and unpacked as a container runtime would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.container import Container
from tests.images.layout import Layout, read_layout
from tests.support.accounts import REPOSITORY


def build_image(output: Path) -> None:
    """By the command that everybody uses."""
    if os.geteuid() != 0:
        pytest.fail("the image is built and entered by root: run these tests as root")
    done = subprocess.run(
        [REPOSITORY / "images" / "build", "--output", output],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"images/build failed:\n{done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar that `make image` makes, made now."""
    output = tmp_path_factory.mktemp("image") / "fluidfs-image.tar"
    build_image(output)
    return output


@pytest.fixture(scope="session")
def layout(image_file: Path) -> Layout:
    """What is in that tar."""
    return read_layout(image_file)


@pytest.fixture(scope="session")
def image_root(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files. To be looked at only."""
    root = tmp_path_factory.mktemp("image-root") / "root"
    root.mkdir()
    layout.unpack(root)
    # Everybody enters it from its root directory, and the way there is not his.
    root.chmod(0o755)
    return root


@pytest.fixture(scope="session")
def container(layout: Layout, image_root: Path) -> Container:
    """The image, ready to run."""
    variables = dict(variable.split("=", 1) for variable in layout.config["config"]["Env"])
    return Container(image_root, variables)
