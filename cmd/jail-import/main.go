// Command jail-import unpacks an archive for "jail image import", which starts it in
// namespaces of its own. It is a program of its own so that the libraries which
// decompress are in no other.

// What reads an archive has no file of the host, which the runtime would otherwise open
// to learn the limits of its cgroup (as jail-pid1).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"

	"jail/internal/unpack"
)

func main() { os.Exit(unpack.Run()) }
