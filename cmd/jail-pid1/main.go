// Command jail-pid1 is process 1 of every jail, where it is called "jail-init: NAME".
// It is a program of its own so that a cold start does not pay for what jail-init
// needs on the host, and so that what a tenant can attack from inside is small.

// A PID 1 must not hold the cgroup files the runtime otherwise opens at its start
// and keeps; through /proc/1/fd they would be the jail's to write
// (go.dev/issue/73193).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"syscall"

	"jail/internal/pid1"
)

func main() { syscall.Exit(pid1.Run()) }
