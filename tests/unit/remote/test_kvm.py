# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl.errors import TestbedError
from pkgctl.remote import kvm, virsh


@pytest.mark.parametrize(("states", "kind"), [(["running"], ""), (["running", "paused"], "paused")])
def test_a_trial_is_won_by_a_guest_that_goes_on_running(states, kind, monkeypatch):
    called = []
    left = iter(states)
    last = states[-1]
    monkeypatch.setattr(virsh, "call", lambda uri, *words, **_: called.append(words) or "")
    monkeypatch.setattr(virsh, "state", lambda uri, name: next(left, last))
    monkeypatch.setattr(kvm, "_TRIAL_SECONDS", 0.02)
    monkeypatch.setattr(kvm, "_STEP_SECONDS", 0.001)

    assert kvm.trial("qemu:///system", "trial") == kind
    assert called[-1] == ("destroy", "trial")


def test_a_trial_that_does_not_start_says_why(monkeypatch):
    def call(uri, *words, **_):
        if words[0] == "create":
            raise TestbedError(f"{uri}: no KVM here")

    monkeypatch.setattr(virsh, "call", call)

    assert kvm.trial("qemu:///system", "trial") == "no KVM here"
