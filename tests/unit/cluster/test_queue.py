# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pkgctl.cluster import pods
from pkgctl.cluster.queue import Queue
from tests.unit.cluster.objects import container, raw_pod


def pod(name, priority=0, created="2026-01-01T00:00:00Z", port=None):
    ports = [{"hostPort": port}] if port else []
    meta = {"creationTimestamp": created}
    return pods.read(raw_pod(name, container("1", ports=ports), meta=meta, priority=priority))


def names(batch):
    return [each.name for each in batch]


def filled(*waiting):
    queue = Queue()
    for each in waiting:
        queue.add(each)
    return queue


def test_the_higher_priority_goes_first_then_the_older_then_who_came_first():
    queue = filled(
        pod("late", created="2026-01-01T00:00:09Z"),
        pod("early"),
        pod("early-too"),
        pod("urgent", priority=5, created="2026-01-01T00:00:09Z"),
    )

    assert names(queue.take(3)) == ["urgent", "early", "early-too"]
    assert names(queue.take(3)) == ["late"]
    assert not queue.has_ready and len(queue) == 4


def test_who_was_set_aside_is_looked_at_again_when_something_changes():
    queue = filled(pod("p"))
    queue.take(1)
    assert queue.aside("uid-p", "no room")
    assert not queue.has_ready

    queue.wake(0.0)

    assert names(queue.take(1)) == ["p"]
    assert not queue.aside("uid-p", "no room")  # nothing new
    queue.wake(0.0)
    queue.take(1)
    assert queue.aside("uid-p", "no memory")


def test_who_will_never_go_is_looked_at_again_only_when_it_changes_itself():
    queue = filled(pod("p"))
    queue.take(1)
    queue.aside("uid-p", "impossible", final=True)

    queue.wake(0.0)
    assert not queue.has_ready
    queue.add(pod("p", priority=1))
    assert names(queue.take(1)) == ["p"]


def test_who_is_removed_is_not_taken_and_who_is_added_twice_is_taken_once():
    queue = filled(pod("p"), pod("q"), pod("q"))

    queue.remove("uid-p")

    assert names(queue.take(9)) == ["q"]
    assert "uid-p" not in queue


def test_a_batch_has_one_pod_at_most_that_is_judged_alone():
    queue = filled(pod("a"), pod("b", port=80), pod("c"), pod("d", port=81), pod("e"))

    assert names(queue.take(9)) == ["a", "b", "c"]
    assert names(queue.take(9)) == ["d", "e"]


def test_who_could_not_be_bound_is_tried_again_after_longer_and_longer():
    queue, now, waits = filled(pod("p")), 0.0, []
    for _ in range(8):
        (taken,) = queue.take(1)
        queue.lend(taken.uid)
        assert taken.uid not in queue
        assert queue.put_back(taken, "refused", now) == (not waits)
        queue.wake(now)  # a change elsewhere does not hurry it
        assert not queue.has_ready
        pause = queue.due(now)
        waits.append(pause)
        now += pause
        assert queue.due(now) is None

    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_who_is_gone_while_it_was_lent_begins_anew():
    queue = filled(pod("p"))
    (taken,) = queue.take(1)
    queue.put_back(taken, "refused", 0.0)
    queue.lend(taken.uid)

    queue.remove(taken.uid)

    assert queue.put_back(taken, "refused", 0.0)
    assert queue.due(0.0) == 1.0


def test_the_wait_of_one_that_is_gone_is_forgotten():
    queue = Queue()
    queue.put_back(pod("p"), "refused", 0.0)
    queue.remove("uid-p")

    queue.due(1.0)

    assert not queue.has_ready
