package network

// Request is what jail-init asks of jail-net, in JSON: to make the kernel's state that of a
// plan.
type Request struct {
	// Pins is the directory of the pins, below /sys/fs/bpf.
	Pins string
	// Lock is a file that is locked meanwhile.
	Lock string
	Plan Plan
}

// Answer is what came of it. With an Error nothing is certain.
type Answer struct {
	Error string
	// Refused says why jails of the plan must not start, by name.
	Refused map[string]string
	// Unsettled reports that something is still there for processes of jails that are no
	// more: the same is to be asked again when some have ended.
	Unsettled bool
}

// Programs is how many programs there are, each with a link whose pin's name begins with
// LinkPrefix.
const (
	Programs   = 16
	LinkPrefix = "link_"
	// CgroupMap is the pin of the map that has the jails with the host's ids, by cgroup:
	// whoever starts one puts it there.
	CgroupMap = "map_cgroup"
)
