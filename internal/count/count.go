// Package count says how many there are of something, for people to read.
package count

import (
	"fmt"
	"strconv"
)

// Of is n with the word for one or for another number of them: "1 jail", "0 jails".
func Of[N int | int64 | uint32 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Size is n bytes: "17 B", "1.5 GiB".
func Size(n uint64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatUint(n, 10) + " B"
	}
	x, i := float64(n)/unit, 0
	for ; x >= unit && i < 3; i++ {
		x /= unit
	}
	return fmt.Sprintf("%.1f %ciB", x, "KMGT"[i])
}
