# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pkgctl.scheduling.job import Artifact
from pkgctl.scheduling.registry import PROVISIONERS, SCHEDULERS
from tests.unit.scheduling.clusters import amounts, cluster, decide, job, node, places

PAGE = Path(__file__).parents[3] / "docs" / "schedulers.md"


def test_the_page_lists_the_names_that_there_are() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)

    assert listed == [*SCHEDULERS, *PROVISIONERS]


def test_the_scheduler_on_the_page_does_what_the_page_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    busy = node("busy", artifacts=["web"], holds=[amounts(1, 64)])
    view = cluster(node("cold"), busy, node("warm", artifacts=["web"]))
    queue = [job(number, cpu=2, artifact=Artifact("web", 1)) for number in range(5)]

    decisions = decide(names["Warmest"](), queue, view)

    assert places(decisions) == ["warm", "busy", "warm", "cold", "cold"]
