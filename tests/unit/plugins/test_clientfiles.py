# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
import os
import socket

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import channel, clientfiles
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import AgentError

from . import agents


@pytest.fixture
def folder(tmp_path):
    """Where a node's load generator has its files."""
    (tmp_path / "nodes" / "edge-1").mkdir(parents=True)
    return tmp_path / "nodes" / "edge-1" / "load"


@pytest.fixture
def files(folder, tmp_path):
    here = agents.node(folder.parent)
    return clientfiles.ClientFiles(tmp_path, {"edge-1": here}.__getitem__)


def put(files, text, **fields):
    data = base64.b64encode(text.encode()).decode()
    return files.put({"node": "edge-1", "name": "plan.json", "data": data, **fields})


def read(files, offset=0, name="plan.json"):
    found = files.read({"node": "edge-1", "name": name, "offset": offset})
    channel.encode(found)
    return base64.b64decode(found["data"]).decode()


def test_a_file_is_written_in_pieces_and_begun_anew(files, folder):
    put(files, "hello ")
    put(files, "world", offset=6)
    assert (folder / "plan.json").read_text() == "hello world"

    put(files, "new")
    assert (folder / "plan.json").read_text() == "new"


def test_a_file_is_read_in_pieces_that_a_message_can_hold(files, folder):
    put(files, "")
    whole = "x" * (clientfiles.PIECE + 10)
    (folder / "plan.json").write_text(whole)

    first = read(files)
    assert len(first) == clientfiles.PIECE
    assert first + read(files, len(first)) == whole
    assert read(files, len(whole)) == ""


def test_a_file_that_is_not_there_is_empty(files):
    assert read(files, name="out.jsonl") == ""


@pytest.mark.parametrize("name", ["../node.json", "", "..", "a/b"])
def test_no_other_file_of_the_node_is_in_reach(files, name):
    with pytest.raises(AgentError, match="no name of a file"):
        put(files, "x", name=name)
    with pytest.raises(AgentError, match="no name of a file"):
        read(files, name=name)


def test_the_generator_is_told_through_its_socket(files, folder):
    folder.mkdir()
    message = {"op": "start", "t0": 1.5}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as generator:
        opened = os.open(folder, os.O_RDONLY)
        generator.bind(f"/proc/self/fd/{opened}/control")
        os.close(opened)
        files.tell({"node": "edge-1", "message": message})

        assert json.loads(generator.recv(1024)) == message


def test_a_generator_that_is_gone_is_told_of_as_such(files, folder):
    for there in (False, True):
        if there:
            folder.mkdir()
        with pytest.raises(AgentError, match="does not listen"):
            files.tell({"node": "edge-1", "message": {}})


def test_all_is_cleared(files, folder):
    put(files, "x")
    files.clear({"node": "edge-1"})
    files.clear({"node": "edge-1"})

    assert not folder.exists()
