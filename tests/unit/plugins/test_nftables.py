# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import struct

import pytest
from pyroute2.netlink.nfnetlink import nftsocket

from ansible_collections.pkgctl.testbed.plugins.module_utils import nftables
from ansible_collections.pkgctl.testbed.plugins.module_utils.errors import (
    CapabilityError,
    DisturbanceError,
    KernelError,
)
from ansible_collections.pkgctl.testbed.plugins.module_utils.netlink import (
    NLM_F_APPEND,
    NLM_F_EXCL,
    Message,
)

from .witness import plain, read_filter

CLASS = 0x70670011
CLOUD, EDGE = "10.77.0.1", "10.77.0.2"


class Kernel:
    """A socket whose kernel takes or refuses, and lists elements that it was given."""

    def __init__(self, *refusals, elements=(), table=None):
        self.refusals = list(refusals)
        self.batches = []
        self._elements = elements
        self._table = table

    def transaction(self, batch):
        self.batches.append([message.what for message in batch])
        if self.refusals:
            raise KernelError("make a rule", self.refusals.pop(0))

    def get(self, message):
        if self.refusals:
            raise KernelError(message.what, self.refusals.pop(0))
        return b"" if self._table is None else self._table.body

    def dump(self, kind, body, *, what):
        return [message.body for message in self._elements]


def expressions(rule):
    found = plain(read_filter(rule))["NFTA_RULE_EXPRESSIONS"]
    return [(each["NFTA_EXPR_NAME"], each["NFTA_EXPR_DATA"]) for each in found]


def of_family(rule):
    """Return which family's packets a rule is about, and what comes after that question."""
    (meta, protocol), (compare, number), *rest = expressions(rule)
    assert (meta, protocol["NFTA_META_KEY"], compare) == ("meta", "NFT_META_NFPROTO", "cmp")
    return number["NFTA_CMP_DATA"]["NFTA_DATA_VALUE"], rest


def named(messages, what):
    return next(each for each in messages if each.what == what)


IPV4, IPV6 = b"\x02", b"\x0a"


def test_all_numbers_of_the_witness_agree_with_ours():
    ours = [message.kind & 0xFF for message in nftables.shaping_table()]
    family = [nftsocket.NFT_MSG_NEWSET] * 2 + [nftsocket.NFT_MSG_NEWRULE] * 2

    assert ours == [nftsocket.NFT_MSG_NEWTABLE, *[nftsocket.NFT_MSG_NEWCHAIN] * 2, *family, *family]
    assert all(message.kind >> 8 == 10 for message in nftables.shaping_table())


@pytest.mark.parametrize(("suffix", "kind", "size"), [("", 7, 4), ("6", 8, 16)])
def test_the_shaping_table_has_a_map_of_classes_and_a_set_of_cut_sources(suffix, kind, size):
    table = nftables.shaping_table()
    classes, cut = (
        plain(read_filter(named(table, f"make set {name}{suffix}"))) for name in ("class", "cut")
    )

    assert classes["NFTA_SET_NAME"] == f"class{suffix}"
    assert classes["NFTA_SET_FLAGS"] == {"NFT_SET_MAP"}
    sizes = ("NFTA_SET_KEY_TYPE", "NFTA_SET_KEY_LEN", "NFTA_SET_DATA_TYPE", "NFTA_SET_DATA_LEN")
    # nft's own numbers of its types: 7 is ipv4_addr, 8 is ipv6_addr, 23 is classid.
    assert [classes[each] for each in sizes] == [kind, size, 23, 4]
    assert (cut["NFTA_SET_NAME"], cut["NFTA_SET_FLAGS"], cut["NFTA_SET_KEY_LEN"]) == (
        f"cut{suffix}",
        frozenset(),
        size,
    )


@pytest.mark.parametrize(
    ("rule", "family", "name", "offset", "size"),
    [(5, IPV4, "class", 16, 4), (9, IPV6, "class6", 24, 16)],
)
def test_what_leaves_gets_the_class_of_its_destination(rule, family, name, offset, size):
    table = nftables.shaping_table()
    chain = plain(read_filter(table[1]))

    assert chain["NFTA_CHAIN_HOOK"]["NFTA_HOOK_HOOKNUM"] == 4
    found, ((_, load), (_, lookup), last) = of_family(table[rule])
    assert found == family
    assert load == {
        "NFTA_PAYLOAD_DREG": "NFT_REG_1",
        "NFTA_PAYLOAD_BASE": "NFT_PAYLOAD_NETWORK_HEADER",
        "NFTA_PAYLOAD_OFFSET": offset,
        "NFTA_PAYLOAD_LEN": size,
    }
    assert (lookup["NFTA_LOOKUP_SET"], lookup["NFTA_LOOKUP_DREG"]) == (name, "NFT_REG_1")
    assert last == (
        "meta",
        {"NFTA_META_KEY": "NFT_META_PRIORITY", "NFTA_META_SREG": "NFT_REG_1"},
    )


@pytest.mark.parametrize(
    ("rule", "family", "name", "offset", "size"),
    [(6, IPV4, "cut", 12, 4), (10, IPV6, "cut6", 8, 16)],
)
def test_what_arrives_from_a_cut_source_is_dropped_before_connections_are_tracked(
    rule, family, name, offset, size
):
    table = nftables.shaping_table()

    hook = {"NFTA_HOOK_HOOKNUM": 0, "NFTA_HOOK_PRIORITY": -300}
    assert plain(read_filter(table[2]))["NFTA_CHAIN_HOOK"] == hook
    found, ((_, source), (_, lookup), (verdict, drop)) = of_family(table[rule])
    assert found == family
    assert (source["NFTA_PAYLOAD_OFFSET"], source["NFTA_PAYLOAD_LEN"]) == (offset, size)
    assert lookup["NFTA_LOOKUP_SET"] == name
    assert verdict == "immediate"
    data = {"NFTA_DATA_VERDICT": {"NFTA_VERDICT_CODE": "NF_DROP"}}
    assert drop == {"NFTA_IMMEDIATE_DREG": "NFT_REG_VERDICT", "NFTA_IMMEDIATE_DATA": data}


def test_a_node_that_is_off_lets_nothing_in_and_nothing_out():
    shut = [plain(read_filter(each)) for each in nftables.close()]

    assert [each["NFTA_CHAIN_HOOK"]["NFTA_HOOK_HOOKNUM"] for each in shut] == [0, 4]
    assert [each["NFTA_CHAIN_POLICY"] for each in shut] == [0, 0]
    names = [plain(read_filter(each))["NFTA_CHAIN_NAME"] for each in nftables.reopen()]
    assert names == [each["NFTA_CHAIN_NAME"] for each in shut]


QUEUED = [(IPV4, "delayed", 12, 8, 7067), (IPV6, "delayed6", 8, 32, 7066)]
QUEUED += [(IPV4, "copied", 12, 8, 7065), (IPV6, "copied6", 8, 32, 7064)]


def test_delayed_pairs_are_queued_and_pass_when_nobody_listens():
    rules = [each for each in nftables.delaying_table(True) if "rule" in each.what]

    found = []
    for rule in rules:
        family, ((_, load), (_, lookup), (name, queue)) = of_family(rule)
        place = (load["NFTA_PAYLOAD_OFFSET"], load["NFTA_PAYLOAD_LEN"])
        found.append((family, lookup["NFTA_LOOKUP_SET"], *place, queue["NFTA_QUEUE_NUM"]))
        assert (name, queue["NFTA_QUEUE_TOTAL"]) == ("queue", 1)
        assert queue["NFTA_QUEUE_FLAGS"] == {"NFT_QUEUE_FLAG_BYPASS"}
    assert found == QUEUED


def test_without_nftables_own_queue_the_target_of_xtables_does_the_same():
    rules = [each for each in nftables.delaying_table(False) if "rule" in each.what]

    for rule, (*_, number) in zip(rules, QUEUED, strict=True):
        *_, (name, target) = expressions(rule)
        shown = (name, target["NFTA_TARGET_NAME"], target["NFTA_TARGET_REV"])
        assert shown == ("target", "NFQUEUE", 3)
        info = bytes.fromhex(target["NFTA_TARGET_INFO"].replace(":", ""))
        assert struct.unpack("=HHHH", info) == (number, 1, 1, 0)


def test_a_pair_is_a_key_of_both_addresses_side_by_side():
    table = nftables.delaying_table(True)
    delayed, delayed6 = (
        plain(read_filter(named(table, f"make set {name}"))) for name in ("delayed", "delayed6")
    )

    assert nftables.key(CLOUD, EDGE) == bytes([10, 77, 0, 1, 10, 77, 0, 2])
    assert (delayed["NFTA_SET_KEY_LEN"], delayed["NFTA_SET_KEY_TYPE"]) == (8, 7 << 6 | 7)
    assert (delayed6["NFTA_SET_KEY_LEN"], delayed6["NFTA_SET_KEY_TYPE"]) == (32, 8 << 6 | 8)


def test_keys_go_to_the_set_of_their_family():
    one, other = nftables.key(CLOUD), nftables.key("fd77::1")

    assert nftables.by_family("cut", [one, other]) == {"cut": [one], "cut6": [other]}
    pairs = [one * 2, other * 2]
    assert nftables.by_family("delayed", pairs) == {"delayed": pairs[:1], "delayed6": pairs[1:]}


def test_elements_are_added_and_taken_out():
    key = nftables.key(CLOUD)
    mapped, added, taken = (
        plain(read_filter(message[0]))["NFTA_SET_ELEM_LIST_ELEMENTS"]
        for message in (
            nftables.map_elements("pkgctl", "class", {key: CLASS}),
            nftables.add_elements("pkgctl", "cut", [key]),
            nftables.delete_elements("pkgctl", "cut", [key]),
        )
    )

    element = {"NFTA_SET_ELEM_KEY": {"NFTA_DATA_VALUE": key}}
    # A register holds a class in the machine's own order.
    value = {"NFTA_SET_ELEM_DATA": {"NFTA_DATA_VALUE": struct.pack("=I", CLASS)}}
    assert mapped == [{**element, **value}]
    assert added == taken == [element]


def test_many_elements_are_cut_into_messages_that_hold_them_all():
    keys = [nftables.key(f"10.77.{number >> 8}.{number & 255}") for number in range(1200)]

    messages = nftables.add_elements("pkgctl", "cut", keys)

    seen = [plain(read_filter(each))["NFTA_SET_ELEM_LIST_ELEMENTS"] for each in messages]
    assert [len(each) for each in seen] == [500, 500, 200]
    flat = [each["NFTA_SET_ELEM_KEY"]["NFTA_DATA_VALUE"] for part in seen for each in part]
    assert flat == keys


def test_elements_are_read_back_with_their_class():
    keys = {nftables.key(CLOUD): CLASS, nftables.key(EDGE): CLASS + 1}
    listed = nftables.map_elements("pkgctl", "class", keys)

    assert nftables.elements(Kernel(elements=listed), "pkgctl", "class") == keys


def test_a_set_without_values_is_read_back_as_its_keys():
    keys = [nftables.key(CLOUD, EDGE)]
    listed = nftables.add_elements("pkgctl-delay", "delayed", keys)

    assert list(nftables.elements(Kernel(elements=listed), "pkgctl-delay", "delayed")) == keys


def test_rules_are_appended_and_the_rest_must_be_new():
    table = nftables.shaping_table()
    rules = [each for each in table if "rule" in each.what]

    assert len(rules) == 4
    assert all(message.flags & NLM_F_APPEND for message in rules)
    assert all(message.flags & NLM_F_EXCL for message in table if message not in rules)


def test_changes_are_one_transaction_and_no_change_is_none():
    kernel = Kernel()

    nftables.send(kernel, [])
    nftables.send(kernel, [nftables.delete_table("pkgctl")])

    assert kernel.batches == [["begin", "delete table pkgctl", "commit"]]


def test_whether_a_table_is_there_is_asked_of_the_kernel():
    assert nftables.exists(Kernel(table=nftables.shaping_table()[0]), "pkgctl")
    assert not nftables.exists(Kernel(errno.ENOENT), "pkgctl")
    with pytest.raises(KernelError, match="find table pkgctl"):
        nftables.exists(Kernel(errno.EPERM), "pkgctl")


def test_a_table_of_that_name_that_is_not_ours_is_an_error():
    ours = nftables.shaping_table()[0]
    foreign = Message(ours.kind, ours.flags, ours.body.replace(b"pkgctl\0", b"others\0"), ours.what)

    with pytest.raises(DisturbanceError, match="table inet pkgctl that is not ours"):
        nftables.exists(Kernel(table=foreign), "pkgctl")


def test_a_kernel_without_its_own_queue_is_offered_the_target():
    kernel = Kernel(errno.ENOENT)

    nftables.make_delaying_table(kernel)

    assert len(kernel.batches) == 2


def test_a_kernel_that_cannot_queue_is_told_what_it_needs():
    with pytest.raises(CapabilityError, match="CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT"):
        nftables.make_delaying_table(Kernel(errno.ENOENT, errno.EOPNOTSUPP))


def test_another_refusal_is_not_taken_for_a_missing_queue():
    with pytest.raises(KernelError, match="Operation not permitted"):
        nftables.make_delaying_table(Kernel(errno.EPERM))
