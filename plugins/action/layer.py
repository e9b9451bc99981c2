# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ..module_utils import parts, specifications
from ..plugin_utils.placing import HEALTH, REST, Layered, Options


class ActionModule(Layered):
    specification = specifications.LAYER
    work = staticmethod(parts.set_layer)
    kinds = REST
    has_health = True

    def asked_kinds(self, options: Options) -> tuple[tuple[str, ...], Options | None]:
        """Return which kinds are to be set on the node, and what is to be set of its health."""
        given = [kind for kind in REST if options.get(kind) is not None]
        return tuple(given), options.get(HEALTH)
