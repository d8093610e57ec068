// Command jail-sftp-server serves SFTP on its standard input and output, inside a
// jail whose root file system has no server of its own: see jail-sftp-server(8).

// Nothing here is worth reading cgroup files for at start-up.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"syscall"

	"jail/internal/sftpserver"
	"jail/internal/sys"
)

func main() { syscall.Exit(sftpserver.Run(sys.Args(), syscall.Environ())) }
