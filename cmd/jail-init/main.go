// Command jail-init starts and supervises jails: see jail-init(8). The first process
// of a jail, which has its name, is jail-pid1.

// A supervisor of one thread at a time has no use for the limits of its cgroup, which
// the runtime would otherwise read at its start and every second.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import "os"

func main() { os.Exit(command(os.Args[1:])) }
