# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ..module_utils import parts, specifications
from ..plugin_utils.placing import Layered


class ActionModule(Layered):
    specification = specifications.STRESS
    work = staticmethod(parts.set_stress)
    kinds = ("stress",)
