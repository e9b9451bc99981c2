# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys

import pytest

from pkgctl import nodeside


def test_the_door_gives_the_modules_of_the_collection():
    name = "ansible_collections.pkgctl.testbed.plugins.module_utils.units"

    assert nodeside.units.__name__ == name
    assert nodeside.Quality is nodeside.quality.Quality


def test_an_unknown_name_is_refused_in_words():
    with pytest.raises(AttributeError, match="no module 'unicorns'"):
        _ = nodeside.unicorns


def test_the_door_imports_nothing_before_it_is_asked():
    code = "import sys, pkgctl.nodeside; print([m for m in sys.modules if 'module_utils' in m])"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
