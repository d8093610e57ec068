// Package count says how many there are of something, for people to read.
package count

import "fmt"

// Of is n with the word for one or for another number of them: "1 jail", "0 jails".
func Of[N int | int64 | uint32 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
