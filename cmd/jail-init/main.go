// Command jail-init starts and supervises jails. It is one program with several
// roles; the first argument says which, and process 1 of a PID namespace that
// was started as such is the jail's own init: see jail-init(8).

// A PID 1 must not hold the cgroup files the runtime otherwise opens at its start
// and keeps; through /proc/1/fd they would be the jail's to write
// (go.dev/issue/73193).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"

	"jail/internal/pid1"
)

func main() {
	if pid1.IsRole(os.Args[0]) {
		os.Exit(pid1.Run())
	}
	os.Exit(command(os.Args[1:]))
}
