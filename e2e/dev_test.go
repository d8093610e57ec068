package e2e

import "os"

var devPlain = os.Getenv("DEV_PLAIN") != ""

func init() {
	if devPlain {
		jailDoors, allDoors = nil, []door{plain}
	}
}
