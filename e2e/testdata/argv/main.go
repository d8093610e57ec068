// Argv stands in for a login shell: it prints the arguments it was started
// with, one quoted line each, so that two ways of starting a shell can be
// compared byte for byte.
package main

import (
	"os"
	"strconv"
)

func main() {
	for _, arg := range os.Args {
		os.Stdout.WriteString(strconv.Quote(arg) + "\n")
	}
}
