// Package jail holds the description of one jail: resolved, validated data
// without behaviour. The registry (package config) and the command line of
// "jail-init run" produce it; the launcher and PID 1 consume it and never look
// at the registry themselves.
package jail

import (
	"time"

	"jail/internal/wire"
)

// EmptyHome is the home, on the host, of a login's account. It is made by "make install": a
// directory of root's with nothing in it but .ssh/agent, also root's, where every login may make
// sockets.
const EmptyHome = "/var/lib/jail/empty-home"

// HostUID is a uid as the host's kernel and passwd database know it.
type HostUID uint32

// UID is a uid as the jail's own passwd knows it: the id stored on the
// rootfs's disk, whatever id map is in force.
type UID uint32

// GID is a gid as the jail's own group file knows it.
type GID uint32

// Spec is one jail. A Spec that left package config is valid: every path is
// absolute and clean, every id is in range, every name matches ValidName.
// It is immutable from then on (a reload makes new Specs; a running jail keeps
// the one it was started with).
type Spec struct {
	// Name is the jail's name in the registry; it appears in the title of
	// PID 1, in log lines and in file names, so it matches ValidName.
	Name string
	// Source says where the root comes from.
	Source Source
	// Hostname is the UTS node name inside, at most 64 bytes.
	Hostname string
	// Userns says which id map the jail runs with.
	Userns Userns
	// IdleTimeout is how long a jail without a session and without any
	// process besides PID 1 lives on; 0 means for ever.
	IdleTimeout time.Duration
	// Autostart starts the jail together with "jail-init serve".
	Autostart bool
	// ContainerRoot lets set-uid programs inside work, and uid 0 keep the
	// capabilities of the profile, in root mode. In userns mode it is
	// implied.
	ContainerRoot bool
	// Env is added to every session's environment, NAME=VALUE, sorted.
	Env []string
	// Mounts are bind mounts from the host, in the order they are made.
	Mounts []Mount
	// Limits are the resource limits promised by the registry. A limit that
	// cannot be kept makes the start fail.
	Limits Limits
	// Logins are the host logins that land in this jail. At least one.
	Logins []Login
	// SFTP says who serves sftp inside.
	SFTP wire.SFTP
	// X11 lets sessions have the X11 display their client forwards.
	X11 bool
	// OnDisconnect is what becomes of a session whose client is gone.
	OnDisconnect OnDisconnect
	// EnvAccept are the names of variables, * and ? standing for others, that may
	// enter with a login besides the usual ones; sorted.
	EnvAccept []string
	// OwnResolver leaves the jail the /etc/resolv.conf of its rootfs; otherwise
	// it sees the host's.
	OwnResolver bool
	// OwnHosts leaves the jail the /etc/hosts of its rootfs also where it does not
	// name the jail.
	OwnHosts bool
	// Timezone is the time zone of sessions: "" is the host's, OwnTimezone
	// what the rootfs says, anything else the name of a zone.
	Timezone string
	// Record has sessions on a terminal recorded, RecordInput what is typed there, too.
	Record, RecordInput bool
	// Commands is what the records of sessions have of the commands.
	Commands Commands
	// Keys says where the keys may be kept by which somebody logs in.
	Keys wire.Keys
	// Sessions are what its sessions may have.
	Sessions wire.SessionLimits
	// Services are started with the jail, in this order, wire.MaxServices at most.
	Services []Service
	// Fresh are the directories that are empty at each start.
	Fresh wire.Fresh
	// Network is what of the host's network is the jail's own.
	Network Network
}

// Service is a program that runs in a jail without a login.
type Service struct {
	// Name is what the log calls it; ValidName, and one of a name in a jail.
	Name string
	// Exec is the program, an absolute path inside, and its arguments.
	Exec []string
	// User is whose it runs as, by the jail's passwd; if it is "", UID says so. Uid 0 is
	// the jail's root.
	User string
	UID  UID
	// Restart says when it is started again, Backoff how long after its end: the first
	// time, then twice as long each time.
	Restart Restart
	Backoff time.Duration
}

// Identity is who the service runs as, as PID 1 and package login know it: the program takes
// the place of the shell.
func (s *Service) Identity() wire.Identity {
	id := wire.Identity{UID: uint32(s.UID), Shell: s.Exec[0]}
	switch {
	case s.User == "root":
		id.UID, id.Name = 0, "root" // also where the rootfs has no passwd
	case s.User != "":
		id.UID, id.Name = wire.ByName, s.User
	}
	return id
}

// Restart says when a service that has ended is started again.
type Restart uint8

// The values of Restart.
const (
	RestartNo        Restart = iota // never
	RestartOnFailure                // unless it ended with status 0
	RestartAlways                   // whenever it has ended
)

// Source says where the root of a jail comes from, as data; package source knows what
// that means.
type Source struct {
	Kind SourceKind
	// Path is the absolute, clean host path of the root directory, for Directory.
	Path string
	// Home is the home directory of the jail's one login, on the host and inside, for
	// Host; Group is the name of its primary group.
	Home, Group string
	// Groups are the groups of the login besides, by the host's names, for Host.
	Groups []Group
	// Prepared is the directory in which package hostfiles keeps what is seen of the
	// host's own files, for Host.
	Prepared string
	// Show are paths of the host that are seen besides, read-only, and Hide what of all
	// that is seen is empty, for Host. Both are absolute, clean and sorted.
	Show, Hide []string
	// Base is what a root is based on, for Based: the name of an image, NAME or NAME/ID,
	// in Images, the directory of the store; or the absolute, clean path of a directory.
	Base, Images string
	// State is the directory of the host with what outlives the jail, for Based, and Persist
	// says what that is.
	State   string
	Persist Persist
	// Scratch is how many bytes the jail may write that do not outlive it, for Based.
	Scratch uint64
}

// Group is a group by the host's name and id.
type Group struct {
	Name string
	GID  GID
}

// Persist is what outlives a jail that is based on an image.
type Persist uint8

// The values of Persist.
const (
	PersistHome Persist = iota // /home
	PersistAll                 // all that differs from the image
	PersistNone                // nothing
)

// String is the value as the registry has it.
func (p Persist) String() string { return [...]string{"home", "all", "none"}[p] }

// DefaultScratch is Source.Scratch where the registry does not say.
const DefaultScratch = 512 << 20

// Homes is what outlives a jail with PersistHome and PersistAll, whatever image comes next.
const Homes = "/home"

// SourceKind is a kind of Source.
type SourceKind uint8

// The values of SourceKind.
const (
	Directory SourceKind = iota // a directory of the host that has all of it
	Host                        // the host's own programs, around one home directory
	Based                       // an image or a directory that others have too, and what differs from it
)

// OnDisconnect is what becomes of a session whose client is gone.
type OnDisconnect uint8

// The values of OnDisconnect, in the order of package wire's.
const (
	DisconnectPlain OnDisconnect = iota // what sshd does
	DisconnectHup                       // SIGHUP, also without a terminal
	DisconnectKill                      // SIGKILL
	DisconnectKeep                      // nothing, also with a terminal
)

// OwnTimezone is the Timezone of a jail that goes by its own /etc/localtime.
const OwnTimezone = "rootfs"

// Userns is the id map of a jail.
type Userns struct {
	// Enabled is false in root mode (userns = false).
	Enabled bool
	// Base is the first host id of the range; the jail's id N is the host's
	// Base+N for N < Size. Base is never 0.
	Base uint32
	// Size is the number of ids mapped.
	Size uint32
	// Keep leaves the one login its own ids, uid and gids, which are its ids on the host
	// inside and outside; the range is for all others.
	Keep bool
}

// Mount is one bind mount.
type Mount struct {
	Source   string // absolute, clean host path
	Target   string // absolute, clean path inside
	ReadOnly bool   // recursively read-only
}

// DefaultPids is the limit on processes that a jail has without one of its own, where
// it can be had.
const DefaultPids = 4096

// Limits are resource limits; a zero field means "not promised".
type Limits struct {
	MemoryBytes uint64 // memory.max; swap is not used on top of it
	CPUPercent  uint32 // cpu.max, in percent of one processor
	Pids        uint32 // pids.max, without PID 1's threads
	// IOWeight is io.weight, 1 to MaxIOWeight: how much of a disk's time the jail gets when
	// others want it, too, compared with their 100; 0 is 100.
	IOWeight uint32
	// DiskBytes and Files bound what is in the directory that is the jail's alone.
	DiskBytes, Files uint64
	// PidsUnlimited leaves out the limit on processes that a jail has by
	// default, promised or not.
	PidsUnlimited bool
}

// MaxIOWeight is the largest Limits.IOWeight.
const MaxIOWeight = 10_000

// Login is one host login and the identity it takes inside.
type Login struct {
	// Name is the host login name ("" for "jail-init run -u", which knows
	// only the uid).
	Name string
	// HostUID is the login's uid on the host; it names the control socket.
	HostUID HostUID
	// UID is the uid inside.
	UID UID
	// GID is the primary group inside when HasGID; otherwise the jail's
	// passwd decides, and where it has no entry the uid is used.
	GID    GID
	HasGID bool
	// JailName, Home and Shell override what the jail's passwd says; empty
	// means no override.
	JailName string
	Home     string
	Shell    string
}

// Identity is l as PID 1 and package login know it.
func (l *Login) Identity() wire.Identity {
	return wire.Identity{
		HostUID: uint32(l.HostUID), UID: uint32(l.UID), GID: uint32(l.GID), HasGID: l.HasGID,
		Name: l.JailName, Home: l.Home, Shell: l.Shell,
	}
}

// MaxNameLen is the longest name ValidName accepts, as useradd(8) has it.
const MaxNameLen = 32

// Commands is what records have of what was asked for.
type Commands string

// The values of Commands; "" is nothing.
const (
	CommandsName Commands = "name" // the program's name alone
	CommandsFull Commands = "full"
)

// ValidName reports whether s may name a jail or a login:
// ^[a-z_][a-z0-9_-]{0,31}$. Only such names ever reach a path, an argument
// vector or a socket name.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > MaxNameLen {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c == '_':
		case i > 0 && (c >= '0' && c <= '9' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// LookerID is the real and the saved uid of the host's processes that look at what is a
// login's, with its owner's uid as their effective one: by these two a process may be sent
// signals, be traced or have its limits set (kill(2), ptrace(2), prlimit(2)), and the owner's
// uid may be somebody's on the host. LookerID is nobody's: it lies above the ids that systemd
// keeps for foreign ones (systemd.io/UIDS-GIDS), and those that jails draw from are below these.
const LookerID = 0x7FFF0000

// ValidID reports whether id may be used as a uid or gid: not 0, not the
// 16-bit and 32-bit "no change" values (setresuid(2); CVE-2019-14287).
func ValidID(id uint32) bool {
	return id != 0 && id != 0xFFFF && id != 0xFFFFFFFF
}
