//go:build tools

// SPDX-License-Identifier: GPL-3.0-or-later

// Package tools names the programs that are built as they are.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
