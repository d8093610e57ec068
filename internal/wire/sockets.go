package wire

// RuntimeDir is the directory that the sockets are in, unless somebody says otherwise.
// Each login has a directory in it, by its uid on the host.
const RuntimeDir = "/run/jail"

// Names of sockets.
const (
	LoginName = "sock" // in a login's directory
	// RecorderName is that on which jail-enter tells of a session that is recorded, as CallerName.
	RecorderName = "recorder"
	// CallerName is that on which jail-enter says who has called it: serve's is in the runtime
	// directory, one of "jail-init run" in the directory of each of its logins.
	CallerName = "caller"
	// CallsName is the same for one login alone, in its directory, once the supervisor has
	// been told of a session of it.
	CallsName = "calls"
)
