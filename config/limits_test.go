package config

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/jail"
)

func TestParseLimits(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  Limited
		err   string
	}{
		{words: []string{"memory=1G"}, want: Limited{jail.Limits{MemoryBytes: 1 << 30}, []string{"memory"}}},
		{words: []string{"cpu=50%", "pids=7"}, want: Limited{jail.Limits{CPUPercent: 50, Pids: 7}, []string{"cpu", "pids"}}},
		{words: []string{"memory=none", "pids=none"}, want: Limited{jail.Limits{PidsUnlimited: true}, []string{"memory", "pids"}}},
		{words: []string{"pids=0"}, want: Limited{jail.Limits{PidsUnlimited: true}, []string{"pids"}}},
		{words: []string{"io_weight=50"}, want: Limited{jail.Limits{IOWeight: 50}, []string{"io_weight"}}},
		{words: []string{"io_weight=none"}, want: Limited{jail.Limits{}, []string{"io_weight"}}},
		{words: []string{"io_weight=0"}, err: "io_weight: 0 is not a weight, use 1 to 10000"},
		{words: []string{"io_weight=10001"}, err: "io_weight: 10001 is not a weight"},
		{words: []string{"io_weight=5%"}, err: `io_weight: "5%" is not a number`},
		{words: []string{"memory"}, err: `"memory" is no limit, write KEY=VALUE`},
		{words: []string{"memory=1"}, err: `memory: "1" is too little`},
		{words: []string{"memory=x\x1b"}, err: `memory: "x\x1b" is not a size`},
		{words: []string{"cpu=50"}, err: `cpu: "50" is not a share`},
		{words: []string{"pids=x"}, err: `pids: "x" is not a number`},
		{words: []string{"pids=-1"}, err: `pids: -1 is not a number of processes`},
		{words: []string{"rootfs=/x"}, err: `"rootfs" is no limit that a running jail can have`},
	} {
		got, err := ParseLimits(c.words)
		if c.err != "" {
			assert.ErrorContains(t, err, c.err, "%q", c.words)
			continue
		}
		assert.NoError(t, err, "%q", c.words)
		assert.Equal(t, c.want, got, "%q", c.words)
	}
}
