package admin

import (
	"fmt"

	"jail/config"
	"jail/internal/wire"
)

// Set changes limits of a jail that runs, KEY=VALUE as in the registry, until it ends, and
// returns the exit status: 0 if they hold, 1 if not.
func Set(opt Options, name string, words []string) (int, error) {
	l, err := config.ParseLimits(words)
	if err != nil {
		return 0, err
	}
	limit := wire.Limit{Jail: name}
	for _, key := range l.Given {
		switch key {
		case "memory":
			limit.What, limit.Memory = limit.What|wire.LimitMemory, l.Limits.MemoryBytes
		case "cpu":
			limit.What, limit.CPU = limit.What|wire.LimitCPU, l.Limits.CPUPercent
		case "pids":
			limit.What, limit.Pids = limit.What|wire.LimitPids, l.Limits.Pids
		case "io_weight":
			limit.What, limit.IOWeight = limit.What|wire.LimitIOWeight, l.Limits.IOWeight
		}
	}
	status, err := order(opt, wire.AppendLimit(nil, &limit))
	if err == nil && status == 0 {
		if reg, err := load(opt); err == nil && reg.Files[name] != "" {
			fmt.Fprintf(opt.Stdout, "until the jail starts anew; limits in %s are for good\n", reg.Files[name])
		}
	}
	return status, err
}
