// Command jail-net puts what jails own of the network into the kernel: it reads one request
// of jail-init's, and answers it (package netload). It is a program of its own, since what
// knows how to load programs would make every start of jail-init a sixth longer.
package main

import (
	"fmt"
	"os"

	"jail/internal/netload"
)

func main() {
	if len(os.Args) != 1 {
		fmt.Fprintln(os.Stderr, "jail-net: is started by jail-init only")
		os.Exit(64) // EX_USAGE, sysexits(3)
	}
	if err := netload.Answer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "jail-net:", err)
		os.Exit(1)
	}
}
