package admin

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/usage"
)

func TestCompare(t *testing.T) {
	used := func(ms int, memory uint64, cgroup bool) usage.Usage {
		return usage.Usage{Processes: 3, CPU: time.Duration(ms) * time.Millisecond, Memory: memory, Cgroup: cgroup}
	}
	before := map[string]sampled{
		"busy": {10, 1, used(1000, 5, true)}, "anew": {20, 1, used(0, 5, false)}, "less": {30, 0, used(50, 7, false)}, "gone": {40, 0, used(0, 0, false)},
		"moved": {60, 0, used(0, 1, false)},
	}
	now := map[string]sampled{
		"busy": {10, 2, used(2500, 6<<20, true)}, "anew": {21, 1, used(9000, 5, false)}, "less": {30, 0, used(40, 7<<30, false)}, "fresh": {50, 0, used(9000, 1, false)},
		"moved": {60, 0, used(9000, 1, true)},
	}
	list := compare(before, now, 2*time.Second)
	assert.Equal(t, topList{Version: 1, Seconds: 2, Jails: []topJail{
		{"busy", 10, 2, 3, 75, 6 << 20, "cgroup"}, {"less", 30, 0, 3, 0, 7 << 30, "proc"}, {"anew", 21, 1, 3, 0, 5, "proc"},
		{"fresh", 50, 0, 3, 0, 1, "proc"}, {"moved", 60, 0, 3, 0, 1, "cgroup"},
	}}, list)
	var out strings.Builder
	require.NoError(t, printTop(&out, list))
	assert.True(t, strings.HasPrefix(out.String(), "JAIL   PID  SESSIONS  PROCESSES  CPU    MEMORY   BY\nbusy   10   2         3          75.0%  6.0 MiB  cgroup\n"), out.String())
	text, err := json.Marshal(compare(nil, nil, 0))
	require.NoError(t, err)
	assert.Equal(t, `{"v":1,"seconds":0,"jails":[]}`, string(text), "no jails are an empty list")
}
