# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of disturbances, each seen by the system's tools, healed exactly, silent when repeated."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.subjects import Subject

MOST_TRIES = 3
# What arrives in 8 seconds in which two streams are there, in bits/s; a stream has two connections.
COUNT = """
device=$(ip -o -4 address show to 10.77.0.0/16 | awk '{print $2; exit}')
count=/sys/class/net/$device/statistics/rx_bytes
both() {
  [ "$(ss -Htn state established '( sport = :5201 or sport = :5202 )' | wc -l)" -eq 4 ]
}
for _ in $(seq 150); do both && break; sleep 0.2; done
sleep 2
begin=$(date +%s%N); before=$(cat "$count")
sleep 8
end=$(date +%s%N); after=$(cat "$count")
both && echo $(((after - before) * 8000000000 / (end - begin)))
"""


def test_the_nodes_are_those_of_the_topology(subject: Subject):
    listing = json.loads(subject.run("ansible-inventory", "--list").output)

    assert set(listing["nodes"]["hosts"]) == {"cloud-1", "edge-1", "edge-2"}
    assert set(listing["site_edge"]["hosts"]) == {"edge-1", "edge-2"}
    assert [subject.sh(node, "hostname").strip() for node in ("cloud-1", "edge-2")] == [
        "cloud-1",
        "edge-2",
    ]


def test_links_have_the_quality_of_the_topology(subject: Subject):
    assert 10.0 <= round_trip(subject, "edge-1", "cloud-1") < 10.0 + slack(subject)
    assert round_trip(subject, "edge-1", "edge-2") < slack(subject)


def test_a_bandwidth_is_held(subject: Subject):
    before = subject.picture()
    line = "perturb.yml -e bw=5mbit -e name=narrow -e lease=none"

    changed = subject.play(line).changed
    carried = best_goodput(subject, "edge-1", "edge-2", 0.95 * goodput_of(5e6))
    again = subject.play(line).changed
    subject.play("heal.yml -e name=narrow")

    assert all(changed.values())
    assert abs(carried - goodput_of(5e6)) <= 0.05 * goodput_of(5e6)
    assert again == dict.fromkeys(changed, 0)
    assert subject.picture() == before


def test_all_that_arrives_at_a_node_shares_its_access(subject: Subject):
    alone = goodput(subject, "cloud-1", "edge-2")
    together = arriving_from_two(subject, ("cloud-1", "edge-1"), "edge-2")

    # One could have 20 Mbit/s, the other 8; the node shares 8. A busy machine carries less.
    assert 0.5 * goodput_of(8e6) <= alone <= 1.05 * goodput_of(8e6)
    assert 0.5 * 8e6 <= together <= 1.05 * 8e6
    assert not any(subject.play("site.yml").changed.values())
    assert subject.run("pkgctl", "verify", "--read-back-only").status == 0


def test_a_delay_is_held_and_spares_others(subject: Subject):
    before = subject.picture()
    line = "perturb.yml -e src=edge-1 -e dst=cloud-1 -e delay=40ms -e name=far -e lease=none"

    subject.play(line)
    late = round_trip(subject, "edge-1", "cloud-1")
    spared = round_trip(subject, "edge-1", "edge-2")
    again = subject.play(line).changed
    subject.play("heal.yml -e name=far")

    # Both ways, over the 5 ms that the topology has.
    assert 90.0 <= late < 90.0 + slack(subject)
    assert spared < slack(subject)
    assert not any(again.values())
    assert subject.picture() == before


def test_a_loss_is_held(subject: Subject):
    before = subject.picture()
    line = "perturb.yml -e src=edge-1 -e dst=edge-2 -e loss=2% -e name=leaky -e lease=none"

    subject.play(line)
    lost, sent = losses(subject, "edge-1", "edge-2")
    again = subject.play(line).changed
    subject.play("heal.yml -e name=leaky")

    # There and back; five deviations either way.
    share = 1 - 0.98**2
    assert abs(lost / sent - share) < 5 * (share * (1 - share) / sent) ** 0.5
    assert not any(again.values())
    assert subject.picture() == before


def test_a_processor_is_held(subject: Subject):
    before = subject.picture()
    line = "perturb.yml -e node=edge-1 -e cpu=0.2 -e name=starved -e lease=none"

    subject.play(line)
    share = busy_share(subject, "edge-1")
    again = subject.play(line).changed
    subject.play("heal.yml -e name=starved")

    assert 0.1 < share < 0.25
    assert not any(again.values())
    assert subject.picture() == before


def test_a_disk_is_unmounted_and_its_files_come_back(subject: Subject):
    before = subject.picture()
    subject.sh("edge-1", "echo kept > /data/witness; sync")

    subject.play("perturb.yml -e node=edge-1 -e disk=unmounted -e name=gone -e lease=none")
    away = subject.sh("edge-1", "ls /data; grep -c ' /data ' /proc/mounts || true").split()
    again = subject.play(
        "perturb.yml -e node=edge-1 -e disk=unmounted -e name=gone -e lease=none"
    ).changed
    subject.play("heal.yml -e name=gone")

    assert away == ["0"]
    assert not any(again.values())
    assert subject.sh("edge-1", "cat /data/witness").strip() == "kept"
    assert subject.picture() == before


def test_a_node_is_crashed_and_started_again(subject: Subject):
    before = subject.picture()
    subject.sh("edge-2", "echo disk > /data/kept; sync; echo memory > /dev/shm/lost")
    line = "perturb.yml -e node=edge-2 -e health=crashed -e name=dead -e lease=none"

    subject.play(line)
    power, heard = subject.power("edge-2"), subject.is_reachable("edge-1", "edge-2")
    refused = subject.run("pkgctl", "exec", "edge-2", "--", "true")
    again = subject.play(line).changed
    subject.play("heal.yml -e name=dead")

    assert (power, heard) == ("off", False)
    assert (refused.status, refused.errors.count("\n")) == (1, 1)
    assert "crashed" in refused.errors
    assert not any(again.values())
    assert subject.sh("edge-2", "cat /data/kept; ls /dev/shm/lost 2>/dev/null || true") == "disk\n"
    assert subject.is_reachable("edge-1", "edge-2")
    assert subject.picture() == before


def test_a_layer_ends_by_its_lease(subject: Subject):
    before = subject.picture()

    subject.play("perturb.yml -e node=edge-1 -e delay=30ms -e name=short -e lease=4s")
    disturbed = subject.picture()
    deadline = time.monotonic() + 30.0
    while subject.picture() != before and time.monotonic() < deadline:
        time.sleep(0.5)

    assert disturbed != before
    assert subject.picture() == before


def test_healing_everything_leaves_nothing_of_several(subject: Subject):
    before = subject.picture()

    subject.play("perturb.yml -e bw=5mbit -e name=one -e lease=none")
    subject.play("perturb.yml -e node=edge-1 -e mem=64Mi -e cpu=0.3 -e name=two -e lease=none")
    subject.play("perturb.yml -e node=cloud-1 -e disk=readonly -e name=three -e lease=none")
    disturbed = subject.picture()
    subject.play("heal.yml")

    assert disturbed != before
    assert subject.picture() == before
    assert not any(subject.play("heal.yml").changed.values())


def slack(subject: Subject) -> float:
    """Return by how many milliseconds a round trip may be longer than asked.

    An emulated processor takes milliseconds to answer.
    """
    return 4.0 if subject.kind == "local" else 15.0


def round_trip(subject: Subject, source: str, target: str) -> float:
    """Return the median round trip in milliseconds of 15 packets, the first left out."""
    shown = subject.inside(source, "ping", "-c", "16", "-i", "0.1", target)
    times = sorted(float(each) for each in re.findall(r"time=([\d.]+) ms", shown)[1:])
    return times[len(times) // 2]


def losses(subject: Subject, source: str, target: str) -> tuple[int, int]:
    """Return how many of 2,000 round trips were lost, and how many there were."""
    shown = subject.inside(source, "ping", "-q", "-c", "2000", "-i", "0.005", "-W", "2", target)
    sent, back = re.search(r"(\d+) packets transmitted, (\d+) received", shown).groups()
    return int(sent) - int(back), int(sent)


def goodput_of(rate: float) -> float:
    """Return what TCP can carry of a rate in bits/s, by the bytes of full frames."""
    return rate * 1448 / 1514


def goodput(subject: Subject, source: str, target: str) -> float:
    """Return what TCP carried from one node to another in bits/s."""
    subject.sh(target, "iperf3 -s -D -1 --pidfile /tmp/iperf3.pid >/dev/null 2>&1; sleep 0.5")
    for _ in range(MOST_TRIES):
        run = subject.run(
            *("pkgctl", "exec", source, "--"),
            *("iperf3", "-J", "-c", target, "-t", "6", "-O", "2"),
        )
        if run.status == 0:
            return float(json.loads(run.output)["end"]["sum_received"]["bits_per_second"])
        time.sleep(1.0)
    raise AssertionError(run.output + run.errors)


def best_goodput(subject: Subject, source: str, target: str, enough: float) -> float:
    """Return the most that TCP carried in a few tries: a machine that is busy carries less."""
    best = 0.0
    for _ in range(MOST_TRIES):
        best = max(best, goodput(subject, source, target))
        if best >= enough:
            break
    return best


def arriving_from_two(subject: Subject, sources: tuple[str, str], target: str) -> float:
    """Return what a node gets in bits/s of frames while two others send all that they can."""
    begun = "iperf3 -s -D -1 -p 5201; iperf3 -s -D -1 -p 5202; sleep 0.5"
    subject.sh(target, f"({begun}) >/dev/null 2>&1")
    with ThreadPoolExecutor() as both:
        streams = [
            both.submit(subject.inside, source, "iperf3", "-c", target, "-p", port, "-t", "30")
            for source, port in zip(sources, ("5201", "5202"), strict=True)
        ]
        counted = subject.sh(target, COUNT)
        for each in streams:
            each.result()
    return float(counted)


def busy_share(subject: Subject, node: str) -> float:
    """Return of how much of a processor a process is given that would use one."""
    script = (
        "import time\n"
        "begin, used = time.monotonic(), time.process_time()\n"
        "while time.monotonic() < begin + 4: pass\n"
        "print((time.process_time() - used) / (time.monotonic() - begin))\n"
    )
    return float(subject.inside(node, "python3", "-S", "-c", script))
