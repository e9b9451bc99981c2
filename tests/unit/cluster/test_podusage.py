# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods have used is told under the names of their jobs."""

from __future__ import annotations

from pkgctl.cluster import podusage


def test_pods_of_ours_have_their_jobs_names_and_others_keep_theirs():
    names = [None, "load-edge-1", "pod:u-1", "pod:u-2"]
    sample = {"mono": 3.0, "rows": [{"job": name, "cpu_seconds": 1.0} for name in names]}

    found = podusage.named(sample, {"u-1": "web-0"})

    assert [row["job"] for row in found["rows"]] == [None, "load-edge-1", "web-0", "pod:u-2"]
    assert found["mono"] == 3.0 and sample["rows"][2]["job"] == "pod:u-1"
