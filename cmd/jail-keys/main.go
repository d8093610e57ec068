// Nothing here is worth reading cgroup files for at start-up.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command jail-keys prints the SSH keys found inside a jail, for sshd's
// AuthorizedKeysCommand.
package main

import (
	"os"

	"jail/internal/keys"
)

func main() {
	os.Exit(keys.Run(os.Args))
}
