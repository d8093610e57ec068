// Command jail-enter is the login shell of a jailed account, and sshd's
// ForceCommand for it. It asks the account's jail for a session and stands in
// for it on the host: see jail-enter(8).

// The runtime would keep cgroup files of the host open (go.dev/issue/73193).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"syscall"

	_ "jail/internal/early" // begins there if the linker is told so
	"jail/internal/enter"
	"jail/internal/sys"
)

func main() { sys.Exit(enter.Run(sys.Args(), syscall.Environ())) }
