# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ..module_utils import upkeep
from ..plugin_utils.placing import Placed


class ActionModule(Placed):
    specification = upkeep.UNIT
    work = staticmethod(upkeep.keep)
