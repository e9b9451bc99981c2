# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine in libvirt's words, and what must be said by XSLT as the provider cannot."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

# All is kept as it is, but for what the templates in it say.
_SHEET = """\
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output omit-xml-declaration="yes" indent="no"/>
  <xsl:template match="@*|node()">
    <xsl:copy><xsl:apply-templates select="@*|node()"/></xsl:copy>
  </xsl:template>
{templates}</xsl:stylesheet>
"""
# Every disk gets its target for a serial, so that a guest finds it under /dev/disk/by-id whatever
# the order in which its kernel does. What a guest without a screen does not need is left out.
_DOMAIN = """\
  <xsl:template match="/domain/devices">
    <xsl:copy>
      <xsl:apply-templates select="@*|node()"/>
      <serial type="pty"><log file={console} append="on"/><target port="0"/></serial>
      <console type="pty">
        <log file={console} append="on"/><target type="serial" port="0"/>
      </console>
      <controller type="usb" model="none"/>
      <memballoon model="none"/>
    </xsl:copy>
  </xsl:template>
  <xsl:template match="/domain/devices/disk">
    <xsl:copy>
      <xsl:apply-templates select="@*|node()"/>
      <xsl:if test="target/@dev = '{seed}'"><readonly/></xsl:if>
      <serial><xsl:value-of select="target/@dev"/></serial>
    </xsl:copy>
  </xsl:template>
  <xsl:template match="/domain/devices/graphics"/>
  <xsl:template match="/domain/devices/video"/>
  <xsl:template match="/domain/devices/channel"/>
  <xsl:template match="/domain/devices/console"/>
  <xsl:template match="/domain/devices/serial"/>
"""
_NETWORK = """\
  <xsl:template match="/network">
    <xsl:copy>
      <xsl:attribute name="ipv6">yes</xsl:attribute>
      <xsl:apply-templates select="@*|node()"/>
      <xsl:if test="not(dns)"><dns enable="no"/></xsl:if>
    </xsl:copy>
  </xsl:template>
  <xsl:template match="/network/bridge/@stp">
    <xsl:attribute name="stp">off</xsl:attribute>
  </xsl:template>
"""
_PRIVATE = """\
  <xsl:template match="permissions/mode"><mode>0600</mode></xsl:template>
"""
ROOT, SEED = "vda", "vdb"


def domain_xslt(console: str) -> str:
    """Return what makes the provider's machine ours.

    Args:
        console: the file on the host that gets all that the serial console says.
    """
    return _sheet(_DOMAIN.replace("{console}", quoteattr(console)).replace("{seed}", SEED))


def network_xslt() -> str:
    """Return what keeps a network without servers of names, spanning trees and IPv6 filters.

    The provider leaves DNS out where it is disabled, and libvirt then starts a server; a spanning
    tree holds each new port back for seconds; and libvirt forbids IPv6 between guests of a network
    that has no IPv6 address of its own.
    """
    return _sheet(_NETWORK)


def private_xslt() -> str:
    """Return what lets nobody but libvirt read a volume."""
    return _sheet(_PRIVATE)


def _sheet(templates: str) -> str:
    return _SHEET.replace("{templates}", templates)


def cmdlines(words: Sequence[str]) -> list[dict[str, str]]:
    """Return the kernel's words as the provider reads them back, so that none seems to change.

    It sorts them, puts those with a value into maps (a new one where a name comes again), and the
    others into the last.
    """
    maps: list[dict[str, str]] = [{}]
    for word in sorted(words):
        name, equals, value = word.partition("=")
        if not equals:
            continue
        if name in maps[-1]:
            maps.append({})
        maps[-1][name] = value
    alone = [word for word in sorted(words) if "=" not in word]
    return [*filter(None, maps), *([{"_": " ".join(alone)}] if alone else [])]


def bridge(testbed_id: str, which: str) -> str:
    """Return the name of a network's bridge, of which the kernel takes 15 letters."""
    return f"pk{which[0]}-{testbed_id}"
