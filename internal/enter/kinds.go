package enter

// Kinds are the ids of refusals by jail-enter itself, of which no program of the host's hears:
// they are in what the user reads, and "jail why" explains them. All others have the id that
// PID 1 or serve has given them.
const (
	KindNoJail    = "no-jail"       // nobody is behind the socket
	KindClosed    = "keeps-closing" // somebody is, and says nothing
	KindNotYours  = "not-allowed"   // the socket is another's
	KindTooLong   = "too-long"      // what is to be run
	KindPath      = "bad-path"      // of the socket
	KindNoAnswer  = "no-answer"     // within a minute
	KindNonsense  = "no-sense"      // the answer makes none
	KindVersion   = "other-version" // of the protocol
	KindSystem    = "system"        // a system call has failed; the line says which
	KindNoCommand = "no-proc"       // what is to be run cannot be read
)
