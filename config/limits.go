package config

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"jail/internal/jail"
)

// LimitKeys are the keys of the limits that a running jail can be given.
var LimitKeys = []string{"memory", "cpu", "pids", "io_weight"}

// Limited are limits that somebody has given by hand.
type Limited struct {
	Limits jail.Limits
	Given  []string // the keys, of LimitKeys
}

// ParseLimits reads limits written as KEY=VALUE, each value as in the registry; "none" is no
// limit.
func ParseLimits(words []string) (Limited, error) {
	var l Limited
	var t limitsTable
	var ps problems
	for _, word := range words {
		key, v, ok := strings.Cut(word, "=")
		at := origin{line: 1, key: key}
		text := value[string]{v: v, origin: at}
		switch {
		case !ok:
			return l, errors.New(shown(word) + " is no limit, write KEY=VALUE as in memory=1G")
		case !slices.Contains(LimitKeys, key):
			return l, errors.New(shown(key) + " is no limit that a running jail can have, there are: " + strings.Join(LimitKeys, ", "))
		case v == "none":
			l.Limits.PidsUnlimited = l.Limits.PidsUnlimited || key == "pids"
		case key == "memory":
			t.Memory = text
		case key == "cpu":
			t.CPU = text
		default:
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return l, errors.New(key + ": " + shown(v) + " is not a number")
			}
			if key == "pids" {
				t.Pids = value[int64]{v: n, origin: at}
			} else {
				t.IOWeight = value[int64]{v: n, origin: at}
			}
		}
		l.Given = append(l.Given, key)
	}
	spec := jail.Spec{Limits: l.Limits}
	checkLimits(&ps, &spec, t)
	l.Limits = spec.Limits
	if len(ps.errors) > 0 {
		return l, errors.New(ps.errors[0].Key + ": " + ps.errors[0].Msg)
	}
	return l, nil
}
