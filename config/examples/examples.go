// Package examples holds the files that are installed for people to look at, where a
// program needs their text.
package examples

import _ "embed"

// SSHD is the block for sshd_config(5).
//
//go:embed sshd_config.d/50-jail.conf
var SSHD string
