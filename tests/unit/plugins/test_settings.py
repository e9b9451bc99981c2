# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils import settings


def test_the_words_of_links_and_capacity_keep_their_texts():
    assert settings.read_link({"bw": "5mbit", "loss": 0.01}) == {"rate": "5mbit", "loss": "0.01"}
    assert settings.read_quota({"mem": "128Mi", "pids": 64, "io": "1Mi/s"}) == {
        "memory": "128Mi",
        "pids": "64",
        "io": "1Mi/s",
    }


@pytest.mark.parametrize("flag", [True, "true", "yes", "Yes", "1", 1])
def test_a_partition_loses_everything(flag):
    assert settings.read_link({"partition": flag}) == {"loss": "100%"}


def test_no_partition_is_nothing():
    assert settings.read_link({"partition": "no", "delay": "1ms"}) == {"delay": "1ms"}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"partition": "yes", "delay": "1ms"}, "delay: means nothing beside partition"),
        ({"partition": "perhaps"}, "partition: 'perhaps' is neither true nor false"),
        ({"bw": "5mbps"}, "bw: rate '5mbps' has the unit 'mbps'"),
        ({"delay": "40"}, "delay: duration '40' has no unit"),
        ({"loss": "150%"}, "loss: ratio '150%' is above 100%"),
    ],
)
def test_a_wrong_value_for_a_link_is_refused_with_its_word(given, error):
    with pytest.raises(ValueError) as caught:
        settings.read_link(given)

    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    "given", [{"cpu": "0"}, {"cpu": "much"}, {"mem": "12Mb"}, {"pids": "3.5"}, {"io": "-1"}]
)
def test_a_wrong_value_for_capacity_is_refused_with_its_word(given):
    with pytest.raises(ValueError, match=f"^{next(iter(given))}: "):
        settings.read_quota(given)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("unmounted", {"condition": "unmounted"}),
        ("data:readonly", {"condition": "readonly", "disk": "data"}),
        ({"data": "mounted"}, {"condition": "mounted", "disk": "data"}),
    ],
)
def test_a_disk_is_given_by_its_condition_with_or_without_its_name(value, parts):
    assert settings.read_disk({"disk": value}) == parts


@pytest.mark.parametrize("value", ["gone", "data:", "data", {}, {"a": "mounted", "b": "x"}, 3])
def test_another_condition_of_a_disk_is_refused(value):
    with pytest.raises(ValueError, match=r"^disk: .* is no condition"):
        settings.read_disk({"disk": value})


def test_all_qualities_of_a_link_keep_their_texts():
    given = {
        **{"delay": "40ms", "jitter": "4ms", "distribution": "pareto", "loss": "2%", "burst": 5},
        **{"duplicate": "1%", "reorder": 0.25, "corrupt": "0.1%"},
    }

    assert settings.read_link(given) == {
        **{"delay": "40ms", "jitter": "4ms", "distribution": "pareto", "loss": "2%", "burst": "5"},
        **{"duplicate": "1%", "reorder": "0.25", "corrupt": "0.1%"},
    }


def test_a_small_number_is_written_without_an_exponent():
    assert settings.read_link({"loss": 1e-7}) == {"loss": "0.0000001"}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"burst": 5}, "burst: says how losses group, and there are none; give loss too"),
        ({"distribution": "normal", "delay": "1ms"}, "distribution: says how jitter scatters"),
        ({"reorder": "5%"}, "reorder: lets packets overtake those that are delayed"),
        ({"burst": "0.5", "loss": "1%"}, "burst: '0.5' is no number of packets"),
        ({"bw": "11000gbit"}, "bw: '11000gbit' is more than 10000gbit"),
        ({"delay": "2h"}, "delay: '2h' is longer than 1h"),
        ({"distribution": "nromal", "jitter": "1ms"}, "distribution: 'nromal' is none of normal"),
        ({"distribution": 3, "jitter": "1ms"}, "distribution: 3 is none of normal"),
    ],
)
def test_what_does_nothing_or_cannot_be_on_a_link_is_refused(given, error):
    with pytest.raises(ValueError) as caught:
        settings.read_link(given)

    assert str(caught.value).startswith(error)


def test_a_file_of_delays_brings_its_own_delay_and_jitter():
    link = settings.read_link({"distribution": "seen.txt"}, (), lambda _: "10ms\n30ms\n")

    assert link == {"delay": "20ms", "jitter": "10ms", "distribution": [-1.0, 1.0]}


def test_what_stands_beside_a_file_of_delays_goes_before_it():
    given = {"distribution": "seen.txt", "delay": "5ms", "jitter": "1ms"}

    link = settings.read_link(given, (), lambda _: "10ms\n30ms\n")

    assert (link["delay"], link["jitter"]) == ("5ms", "1ms")


def test_a_trace_sets_what_the_words_do_not():
    assert settings.read_link({}, ("rate", "delay")) == {"loss": "0%"}
    assert settings.read_link({"reorder": "1%"}, ("delay",)) == {"reorder": "1%"}
    with pytest.raises(ValueError, match="bw: contradicts trace, which has its own rate"):
        settings.read_link({"bw": "1mbit"}, ("rate",))


@pytest.mark.parametrize(
    ("given", "quota"),
    [
        ({"read": "1Mi", "write": "2Mi/s"}, {"read_bps": "1Mi", "write_bps": "2Mi/s"}),
        ({"iops": 100}, {"read_iops": "100", "write_iops": "100"}),
        ({"slow": "20ms"}, {"read_iops": "50", "write_iops": "50"}),
        ({"slow": "300ms"}, {"read_iops": "3", "write_iops": "3"}),
        ({"slow": "1s"}, {"read_iops": "1", "write_iops": "1"}),
    ],
)
def test_disks_are_throttled_by_bytes_by_requests_or_by_the_time_of_one(given, quota):
    assert settings.read_quota(given) == quota


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"slow": "2s"}, "slow: '2s' is no time of one request; write from 1us to 1s"),
        ({"slow": "0s"}, "slow: '0s' is no time of one request"),
        ({"slow": "20ms", "iops": 3}, "slow: contradicts iops"),
        ({"iops": "0"}, "iops: '0' is no whole number above zero"),
    ],
)
def test_a_wrong_throttle_is_refused(given, error):
    with pytest.raises(ValueError) as caught:
        settings.read_quota(given)

    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"disk": "unmounted", "how": "lazy"}, {"condition": "unmounted", "how": "lazy"}),
        ({"disk": "readonly", "how": "force"}, {"condition": "readonly", "how": "force"}),
        ({"disk": "data:detached"}, {"disk": "data", "condition": "detached"}),
        ({"fill": "90%"}, {"fill": "90%"}),
        (
            {"fill": "data:90%", "disk_size": "64Mi"},
            {"disk": "data", "fill": "90%", "size": "64Mi"},
        ),
        (
            {"disk": "data:readonly", "fill": {"data": 0.5}},
            {"disk": "data", "condition": "readonly", "fill": "0.5"},
        ),
    ],
)
def test_a_disk_goes_is_filled_and_resized(given, options):
    assert settings.read_disk(given) == options


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"how": "lazy"}, "how: says how a disk goes; give disk=unmounted or disk=readonly too"),
        ({"disk": "detached", "how": "force"}, "how: says how a disk goes"),
        ({"disk": "unmounted", "how": "softly"}, "how: 'softly' is none of clean, lazy, force"),
        ({"disk": "unmounted", "fill": "9%"}, "fill: means nothing on a disk that is unmounted"),
        ({"disk": "detached", "disk_size": "1Mi"}, "disk_size: means nothing on a disk that is"),
        ({"fill": "0%"}, "fill: level '0%' must be above zero"),
        ({"fill": "120%"}, "fill: ratio '120%' is above 100%"),
        ({"fill": []}, "fill: "),
        ({"disk": "a:mounted", "fill": "b:5%"}, "fill: is about disk b, not a; name one"),
    ],
)
def test_a_disk_of_which_nothing_can_come_is_refused(given, error):
    with pytest.raises(ValueError) as caught:
        settings.read_disk(given)

    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("health", ["paused", "stopped", "crashed", "isolated"])
def test_a_node_may_be_paused_stopped_crashed_or_isolated(health):
    assert settings.read_health({"health": health}) == health


@pytest.mark.parametrize("health", ["running", "", 3, ["paused"]])
def test_another_health_is_refused(health):
    with pytest.raises(ValueError, match=r"^health: .* is none of paused, stopped, crashed"):
        settings.read_health({"health": health})


def test_stress_is_in_workers_and_bytes():
    given = {"stress_cpu": 1.5, "stress_mem": "64Mi", "stress_io": 2}

    assert settings.read_stress(given) == {"cpu": "1.5", "memory": "64Mi", "io": "2"}


@pytest.mark.parametrize("given", [{"stress_cpu": 0}, {"stress_mem": "1Mb"}, {"stress_io": 0.5}])
def test_wrong_stress_is_refused_with_its_word(given):
    with pytest.raises(ValueError, match=f"^{next(iter(given))}: "):
        settings.read_stress(given)
