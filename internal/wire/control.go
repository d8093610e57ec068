package wire

// Identity is who a session runs as: a host login and what the registry says
// about its place inside. The fields mirror jail.Login; package wire keeps its
// own copy so that it depends on nothing.
type Identity struct {
	HostUID  uint32
	UID, GID uint32
	HasGID   bool
	Name     string
	Home     string
	Shell    string
}

// maxPath bounds names and paths in control and set-up messages (PATH_MAX).
const maxPath = 4096

func putIdentity(b []byte, id *Identity) []byte {
	b = putU32(putU32(putU32(b, id.HostUID), id.UID), id.GID)
	b = putBool(b, id.HasGID)
	return putString(putString(putString(b, id.Name), id.Home), id.Shell)
}

func (r *reader) identity() Identity {
	return Identity{
		HostUID: r.u32(), UID: r.u32(), GID: r.u32(), HasGID: r.boolean(),
		Name: r.str(maxPath), Home: r.str(maxPath), Shell: r.str(maxPath),
	}
}

// FlagWantLog in a Hello asks for the jail's log lines from then on.
const FlagWantLog uint16 = 1 << 0

// AppendHelloEvents is AppendHello for log lines and events.
func AppendHelloEvents(dst []byte) []byte {
	return header(dst, TypeHello, FlagWantLog|FlagWantEvents|FlagWantOOM)
}

// AppendHello asks for a Status. A receiver that has set SO_PASSCRED learns with
// the answer, from the kernel, the pid of PID 1 on the host.
func AppendHello(dst []byte, wantLog bool) []byte {
	if wantLog {
		return header(dst, TypeHello, FlagWantLog)
	}
	return header(dst, TypeHello, 0)
}

// FlagWantBuild in a Hello asks for the Build in the Status. A PID 1 of before 2026-11-29
// does not know it, and gives none.
const FlagWantBuild uint16 = 1 << 2

// MaxBuild bounds the build of a program, in bytes.
const MaxBuild = 64

// AppendHelloBuild is AppendHello for the Status of which build PID 1 is of.
func AppendHelloBuild(dst []byte, wantLog bool) []byte {
	if wantLog {
		return header(dst, TypeHello, FlagWantLog|FlagWantBuild)
	}
	return header(dst, TypeHello, FlagWantBuild)
}

// Status describes a running jail.
type Status struct {
	Name      string
	Sessions  uint32 // sessions in progress
	Served    uint64 // sessions since the start
	Processes bool   // there are processes besides PID 1
	Stopping  bool   // the jail is on its way down
	// Build is of which build its PID 1 is, as the launcher has told it; "" if it does not
	// say. Sent to who has asked for it.
	Build string
}

// AppendStatus encodes s.
func AppendStatus(dst []byte, s *Status) []byte {
	dst = putString(header(dst, TypeStatus, 0), s.Name)
	dst = putU64(putU32(dst, s.Sessions), s.Served)
	dst = putBool(putBool(dst, s.Processes), s.Stopping)
	if s.Build != "" {
		dst = putString(dst, s.Build)
	}
	return dst
}

// DecodeStatus decodes the body of a TypeStatus packet.
func DecodeStatus(body []byte) (Status, error) {
	in := reader{b: body}
	s := Status{
		Name: in.str(maxPath), Sessions: in.u32(), Served: in.u64(),
		Processes: in.boolean(), Stopping: in.boolean(),
	}
	if len(in.b) > 0 {
		s.Build = in.str(MaxBuild)
		in.bad = in.bad || s.Build == ""
	}
	return s, in.done()
}

// Stop ends the jail: every process gets SIGHUP and SIGTERM, and SIGKILL after
// GraceMillis milliseconds.
type Stop struct{ GraceMillis uint32 }

// AppendStop encodes s.
func AppendStop(dst []byte, s Stop) []byte {
	return putU32(header(dst, TypeStop, 0), s.GraceMillis)
}

// DecodeStop decodes the body of a TypeStop packet.
func DecodeStop(body []byte) (Stop, error) {
	in := reader{b: body}
	s := Stop{GraceMillis: in.u32()}
	return s, in.done()
}

// AppendAddLogin encodes a login whose listener travels with the packet.
func AppendAddLogin(dst []byte, id *Identity) []byte {
	return putIdentity(header(dst, TypeAddLogin, 0), id)
}

// DecodeAddLogin decodes the body of a TypeAddLogin packet.
func DecodeAddLogin(body []byte) (Identity, error) {
	in := reader{b: body}
	id := in.identity()
	return id, in.done()
}

// AppendDropLogin encodes the host uid of a login that may no longer enter.
func AppendDropLogin(dst []byte, hostUID uint32) []byte {
	return putU32(header(dst, TypeDropLogin, 0), hostUID)
}

// DecodeDropLogin decodes the body of a TypeDropLogin packet.
func DecodeDropLogin(body []byte) (uint32, error) {
	in := reader{b: body}
	uid := in.u32()
	return uid, in.done()
}

// AppendExec announces that the next packet on this control connection is a
// Request to be run as id.
func AppendExec(dst []byte, id *Identity) []byte {
	return putIdentity(header(dst, TypeExec, 0), id)
}

// DecodeExec decodes the body of a TypeExec packet.
func DecodeExec(body []byte) (Identity, error) {
	in := reader{b: body}
	id := in.identity()
	return id, in.done()
}

// ByName as the UID of an Identity says that its Name is whose it is, by the jail's
// passwd. No user has it (setuid(2)).
const ByName = 1<<32 - 1

// MaxService bounds the name of a service, in bytes.
const MaxService = 32

// FlagFind in a Service asks what there is of it: the answer is Started if it runs, and
// Exited when it ends; Exited at once if it has ended; and Refused, with status 0, if it has
// never run. Without the flag the next packet is a Request to be run as that service, as
// with Exec.
//
// A PID 1 of before 2026-11-29 knows no services and closes the connection.
const FlagFind uint16 = 1 << 0

// Service is a session that is the host's to start, and outlives the connection it was
// started by. There is one of a name.
type Service struct {
	Name string
	// As is who it runs as; its Shell is the program.
	As Identity
}

// AppendService encodes s, with FlagFind or 0.
func AppendService(dst []byte, s *Service, flags uint16) []byte {
	return putIdentity(putString(header(dst, TypeService, flags), s.Name), &s.As)
}

// DecodeService decodes the body of a TypeService packet.
func DecodeService(body []byte) (Service, error) {
	in := reader{b: body}
	s := Service{Name: in.str(MaxService), As: in.identity()}
	if s.Name == "" {
		return s, ErrMalformed
	}
	return s, in.done()
}

// AppendText encodes a message that is only a text: TypeLog, TypeFailed.
func AppendText(dst []byte, t Type, text string) []byte {
	return putString(header(dst, t, 0), clip(text))
}

// FlagNote in a Log says that it is a note on the root file system, which PID 1 says
// at each start: who has heard it from the same jail before need not say it again.
const FlagNote uint16 = 1 << 0

// AppendNote encodes a Log that is such a note.
func AppendNote(dst []byte, text string) []byte {
	return putString(header(dst, TypeLog, FlagNote), clip(text))
}

// DecodeText decodes the body of a TypeLog or TypeFailed packet.
func DecodeText(body []byte) (string, error) {
	in := reader{b: body}
	s := in.str(MaxText)
	return s, in.done()
}

// AppendReload asks serve to read the registry again.
func AppendReload(dst []byte) []byte { return header(dst, TypeReload, 0) }

// AppendStart asks serve to start a jail that no login starts, since it is disabled.
func AppendStart(dst []byte, jail string) []byte { return putString(header(dst, TypeStart, 0), jail) }

// DecodeStart decodes the body of a TypeStart packet.
func DecodeStart(body []byte) (jail string, err error) {
	in := reader{b: body}
	jail = in.str(MaxService)
	if jail == "" {
		return "", ErrMalformed
	}
	return jail, in.done()
}

// Limit changes limits of a jail that runs, those whose bit is in What. 0 is no limit.
type Limit struct {
	Jail   string
	What   uint8
	Memory uint64 // bytes
	CPU    uint32 // percent of one processor
	Pids   uint32
	// IOWeight is there with LimitIOWeight only, which a serve of before 2026-11-29 refuses.
	IOWeight uint32
}

// The bits of Limit.What.
const (
	LimitMemory uint8 = 1 << iota
	LimitCPU
	LimitPids
	LimitIOWeight
	limitAll = LimitMemory | LimitCPU | LimitPids | LimitIOWeight
)

// AppendLimit encodes l.
func AppendLimit(dst []byte, l *Limit) []byte {
	dst = append(putString(header(dst, TypeLimit, 0), l.Jail), l.What)
	dst = putU32(putU32(putU64(dst, l.Memory), l.CPU), l.Pids)
	if l.What&LimitIOWeight != 0 {
		dst = putU32(dst, l.IOWeight)
	}
	return dst
}

// DecodeLimit decodes the body of a TypeLimit packet.
func DecodeLimit(body []byte) (Limit, error) {
	in := reader{b: body}
	l := Limit{Jail: in.str(MaxService), What: in.u8(), Memory: in.u64(), CPU: in.u32(), Pids: in.u32()}
	if l.What&LimitIOWeight != 0 {
		l.IOWeight = in.u32()
	}
	if l.What == 0 || l.What&^limitAll != 0 {
		return l, ErrMalformed
	}
	return l, in.done()
}

// Values of TypeVerdict, which are exit statuses as well.
const (
	VerdictTaken  = 0 // what the registry says is in force
	VerdictNone   = 1 // nothing of it is; what was in force stays
	VerdictFaults = 2 // it is in force, but for what is out of service
)

// AppendVerdict encodes what came of a reload.
func AppendVerdict(dst []byte, verdict uint8) []byte {
	return append(header(dst, TypeVerdict, 0), verdict)
}

// DecodeVerdict decodes the body of a TypeVerdict packet.
func DecodeVerdict(body []byte) (uint8, error) {
	in := reader{b: body}
	v := in.u8()
	if v > VerdictFaults {
		return 0, ErrMalformed
	}
	return v, in.done()
}

// AppendReady encodes TypeReady.
func AppendReady(dst []byte) []byte { return header(dst, TypeReady, 0) }

// Mount is one bind mount of a Setup.
type Mount struct {
	// Target is where it goes, a clean absolute path inside.
	Target string
	// Source is the host path to open; empty when the mount travels as a
	// descriptor, which it does unless the launcher is not root.
	Source   string
	ReadOnly bool
}

// Entry is one thing that PID 1 makes in a root of its own.
type Entry struct {
	Kind EntryKind
	// Path is clean and absolute. What is above it has been made before.
	Path string
	// Text is where a link leads, or what is in a file.
	Text string
	// Mode are the permissions of a directory or file system.
	Mode uint32
	// UID and GID are the owner of a directory, as the jail knows them.
	UID, GID uint32
	// Bytes bounds a file system, in bytes; it has a file for each 4 KiB at most.
	Bytes uint64
}

// EntryKind is what an Entry is.
type EntryKind uint8

// The values of EntryKind.
const (
	EntryDir   EntryKind = iota // a directory
	EntryLink                   // a symbolic link
	EntryFile                   // a file that everybody may read
	EntryTmpfs                  // an empty file system in memory
	// EntryHide has nothing seen of what is at Path, where there is something: of the
	// mounts, made after them.
	EntryHide
)

// Setup is everything PID 1 has to know. Descriptors travel with it.
type Setup struct {
	Name     string
	Hostname string
	// Build is of which build PID 1 is, for a Status; MaxBuild bytes at most.
	Build string
	// Rootfs is the path PID 1 has to clone itself, in rootless mode; Dev and
	// Ino are what the opened directory must be.
	Rootfs   string
	Dev, Ino uint64
	// OwnRoot says that there is no rootfs: PID 1 makes a root of its own, with
	// Entries in it, MaxEntries at most.
	OwnRoot       bool
	Entries       []Entry
	Userns        bool
	ContainerRoot bool
	// NoSetgroups says that setgroups(2) is denied in the user namespace, as
	// it is without a subordinate range (user_namespaces(7)).
	NoSetgroups bool
	// Landlock is the ABI that was applied before PID 1 started, or 0.
	Landlock uint8
	// IdleMillis is how long an idle jail lives, in milliseconds; 0 is for ever.
	IdleMillis uint64
	// PtyMax bounds the terminals of the jail (devpts max=).
	PtyMax uint32
	// HardFiles is the hard RLIMIT_NOFILE of sessions; the soft one is 1024.
	HardFiles uint64
	Env       []string
	Mounts    []Mount
	// Logins are the first logins of the jail, SetupLogins at most. The others follow
	// by AddLogin; who connects to their sockets before waits in the queue.
	Logins []Identity
	SFTP   SFTP
	// SFTPServer says where PID 1 gets the built-in server from.
	SFTPServer SFTPServer
	// SFTPPath is its host path, for SFTPServerPath.
	SFTPPath string
	// X11 lets sessions have the display their client forwards.
	X11 bool
	// OnDisconnect is what becomes of a session whose client is gone.
	OnDisconnect OnDisconnect
	// EnvAccept are patterns of variables that may enter besides the usual ones.
	EnvAccept []string
	// Resolver says where the file comes from that is shown as
	// /etc/resolv.conf; ResolverPath is the host path to open with
	// ResolverByPath.
	Resolver     uint8
	ResolverPath string
	// Hosts has a line for the jail's own name shown in /etc/hosts, where it lacks one
	// and nobody keeps that file.
	Hosts bool
	// Zone is the time zone sessions are to have, "" if they have the rootfs's
	// own anyway; ZoneRule says the same by itself (tzset(3)), if it is known.
	// With ZoneSum, environ.Sum of the zone's file, PID 1 finds out whether the
	// rootfs says so already.
	Zone     string
	ZoneRule string
	ZoneSum  uint64
	// Keys says where the keys of logins may be kept.
	Keys Keys
	// Locked says that a lock of the launcher's keeps others from the rootfs, which
	// lasts as long as PID 1 has Descriptors.Lock open. Otherwise PID 1 has to lock
	// the rootfs itself, in rootless mode.
	Locked bool
	// Fresh are directories that are empty at each start: file systems in memory.
	Fresh Fresh
	// Sessions are what sessions may have.
	Sessions SessionLimits
	// MemoryEvents says that memory.events of the jail's cgroup travels, open for reading.
	MemoryEvents bool
	// Devices says that /dev travels, with the device nodes of this jail alone in it.
	// Otherwise PID 1 makes it.
	Devices bool
	// Complete says that the root is one that others have, too, and may lack what this
	// jail needs: entries of its logins in passwd and group, their homes, and files to
	// show the host's over. PID 1 then makes them.
	Complete bool
}

// SessionLimits are what the sessions of a jail may have. The zero value is no limit but
// PID 1's own.
type SessionLimits struct {
	// Max is how many there may be at once, the administrator's and services aside.
	Max uint32
	// PerMinute is how many of one login may begin in a minute.
	PerMinute uint32
	// Umask is what they begin with, if SetUmask; Nice is their niceness, 0 to 19.
	SetUmask bool
	Umask    uint16
	Nice     uint8
	// Rlimits are their resource limits, MaxRlimits at most.
	Rlimits []Rlimit
}

// Rlimit is a resource limit (getrlimit(2)), soft and hard.
type Rlimit struct {
	Resource uint8
	Value    uint64
}

// MaxRlimits bounds the resource limits of sessions: the kernel has no more.
const MaxRlimits = 16

func putSessions(b []byte, s *SessionLimits) []byte {
	b = putBool(putU32(putU32(b, s.Max), s.PerMinute), s.SetUmask)
	b = append(putU16(b, s.Umask), s.Nice, uint8(len(s.Rlimits)))
	for _, r := range s.Rlimits {
		b = putU64(append(b, r.Resource), r.Value)
	}
	return b
}

func (r *reader) sessions() (s SessionLimits) {
	s.Max, s.PerMinute, s.SetUmask, s.Umask, s.Nice = r.u32(), r.u32(), r.boolean(), r.u16(), r.u8()
	n := int(r.u8())
	r.bad = r.bad || s.Umask > 0o777 || s.Nice > 19 || n > MaxRlimits
	for ; n > 0 && !r.bad; n-- {
		limit := Rlimit{r.u8(), r.u64()}
		r.bad = r.bad || limit.Resource >= MaxRlimits
		s.Rlimits = append(s.Rlimits, limit)
	}
	return s
}

// AppendSessions encodes what sessions may have from now on. A PID 1 of before 2026-11-29,
// which gives no Build, closes the connection over it.
func AppendSessions(dst []byte, s *SessionLimits) []byte {
	return putSessions(header(dst, TypeSessions, 0), s)
}

// DecodeSessions decodes the body of a TypeSessions packet.
func DecodeSessions(body []byte) (SessionLimits, error) {
	in := reader{b: body}
	s := in.sessions()
	return s, in.done()
}

// Fresh are directories of the root file system over which an empty one in memory is
// mounted at each start.
type Fresh uint8

// The bits of Fresh.
const (
	FreshRun Fresh = 1 << iota // /run
	FreshTmp                   // /tmp
	freshAll = FreshRun | FreshTmp
)

// SFTP says which server an sftp request gets.
type SFTP uint8

// The values of SFTP.
const (
	SFTPAuto    SFTP = iota // the rootfs's own if it has one, else the built-in
	SFTPBuiltin             // the built-in, jail-sftp-server
	SFTPRootfs              // the rootfs's own
	SFTPOff                 // none
)

// Builtin reports whether the built-in server may be needed.
func (s SFTP) Builtin() bool { return s == SFTPAuto || s == SFTPBuiltin }

// SFTPInside is where the built-in sftp server is inside.
const SFTPInside = "/dev/jail/sftp-server"

// SFTPServer says where the built-in sftp server comes from.
type SFTPServer uint8

// The values of SFTPServer.
const (
	SFTPServerNone SFTPServer = iota // it is not wanted, or not installed
	SFTPServerTree                   // a clone of its file travels as a descriptor
	SFTPServerPath                   // PID 1 clones it itself, in rootless mode
)

// Keys says where the keys may be kept by which somebody logs in.
type Keys uint8

// The values of Keys.
const (
	// KeysInside: in authorized_keys inside the jail. A login by any other key that
	// sshd has accepted is refused.
	KeysInside Keys = 0
	// KeysAnywhere: sshd may also have keys and authorities of its own, which no
	// file inside has to name.
	KeysAnywhere Keys = 1
)

// OnDisconnect is what becomes of a session whose client is gone.
type OnDisconnect uint8

// The values of OnDisconnect.
const (
	// DisconnectPlain is what sshd does: the kernel hangs up a terminal, and a
	// session without one is left alone.
	DisconnectPlain OnDisconnect = 0
	// DisconnectHup sends SIGHUP also to a session without a terminal.
	DisconnectHup OnDisconnect = 1
	// DisconnectKill sends SIGKILL.
	DisconnectKill OnDisconnect = 2
	// DisconnectKeep keeps the terminal, so that nothing is hung up.
	DisconnectKeep OnDisconnect = 3
)

// Values of Setup.Resolver.
const (
	ResolverOwn    = 0 // the rootfs's own
	ResolverTree   = 1 // a tree that travels with the set-up
	ResolverByPath = 2 // PID 1 opens ResolverPath, since the launcher is not root
)

// maxStrings bounds Env and EnvAccept of a Setup, each: what a count can say. The length
// of the packet bounds them before.
const maxStrings = 1<<16 - 1

// fits reports whether the lists of s are within their limits.
func (s *Setup) fits() bool {
	return len(s.Env) <= maxStrings && len(s.EnvAccept) <= maxStrings && len(s.Mounts) <= MaxMounts && len(s.Entries) <= MaxEntries && len(s.Logins) <= SetupLogins
}

// AppendSetup encodes s; it fails with ErrTooLong on more than MaxMounts mounts,
// MaxEntries entries or SetupLogins logins, or if all of it is longer than a packet.
func AppendSetup(dst []byte, s *Setup) ([]byte, error) {
	if !s.fits() {
		return nil, ErrTooLong
	}
	return appendSetup(dst, s)
}

func appendSetup(dst []byte, s *Setup) ([]byte, error) {
	dst = putString(putString(putString(putString(header(dst, TypeSetup, 0), s.Name), s.Hostname), s.Build), s.Rootfs)
	dst = putU64(putU64(dst, s.Dev), s.Ino)
	dst = putBool(putBool(putBool(dst, s.Userns), s.ContainerRoot), s.NoSetgroups)
	dst = append(dst, s.Landlock)
	dst = putU64(putU32(putU64(dst, s.IdleMillis), s.PtyMax), s.HardFiles)
	dst = putU16(dst, uint16(len(s.Env)))
	for _, e := range s.Env {
		dst = putString(dst, e)
	}
	dst = putU16(dst, uint16(len(s.Mounts)))
	for _, m := range s.Mounts {
		dst = putBool(putString(putString(dst, m.Target), m.Source), m.ReadOnly)
	}
	dst = putU16(dst, uint16(len(s.Logins)))
	for i := range s.Logins {
		dst = putIdentity(dst, &s.Logins[i])
	}
	dst = putString(append(dst, byte(s.SFTP), byte(s.SFTPServer)), s.SFTPPath)
	dst = append(putBool(dst, s.X11), byte(s.OnDisconnect))
	dst = putU16(dst, uint16(len(s.EnvAccept)))
	for _, e := range s.EnvAccept {
		dst = putString(dst, e)
	}
	dst = putBool(putString(append(dst, s.Resolver), s.ResolverPath), s.Hosts)
	dst = putU64(putString(putString(dst, s.Zone), s.ZoneRule), s.ZoneSum)
	dst = putBool(putBool(putBool(append(dst, byte(s.Keys), byte(s.Fresh)), s.Locked), s.Devices), s.OwnRoot)
	dst = putBool(putBool(dst, s.Complete), s.MemoryEvents)
	dst = putSessions(dst, &s.Sessions)
	dst = putU16(dst, uint16(len(s.Entries)))
	for _, e := range s.Entries {
		dst = putString(putString(append(dst, byte(e.Kind)), e.Path), e.Text)
		dst = putU64(putU32(putU32(putU32(dst, e.Mode), e.UID), e.GID), e.Bytes)
	}
	if len(dst) > MaxPacket {
		return nil, ErrTooLong
	}
	return dst, nil
}

// DecodeSetup decodes the body of a TypeSetup packet.
func DecodeSetup(body []byte) (*Setup, error) {
	in := reader{b: body}
	s := &Setup{
		Name: in.str(maxPath), Hostname: in.str(maxPath), Build: in.str(MaxBuild), Rootfs: in.str(maxPath),
		Dev: in.u64(), Ino: in.u64(),
		Userns: in.boolean(), ContainerRoot: in.boolean(), NoSetgroups: in.boolean(),
		Landlock:   in.u8(),
		IdleMillis: in.u64(), PtyMax: in.u32(), HardFiles: in.u64(),
	}
	for n := int(in.u16()); n > 0 && !in.bad; n-- {
		s.Env = append(s.Env, in.str(MaxString))
	}
	for n := int(in.u16()); n > 0 && !in.bad; n-- {
		s.Mounts = append(s.Mounts, Mount{Target: in.str(maxPath), Source: in.str(maxPath), ReadOnly: in.boolean()})
	}
	for n := int(in.u16()); n > 0 && !in.bad; n-- {
		s.Logins = append(s.Logins, in.identity())
	}
	s.SFTP, s.SFTPServer, s.SFTPPath = SFTP(in.u8()), SFTPServer(in.u8()), in.str(maxPath)
	if s.SFTP > SFTPOff || s.SFTPServer > SFTPServerPath || (s.SFTPPath != "") != (s.SFTPServer == SFTPServerPath) {
		return nil, ErrMalformed
	}
	s.X11, s.OnDisconnect = in.boolean(), OnDisconnect(in.u8())
	if s.OnDisconnect > DisconnectKeep {
		return nil, ErrMalformed
	}
	for n := int(in.u16()); n > 0 && !in.bad; n-- {
		s.EnvAccept = append(s.EnvAccept, in.str(maxPath))
	}
	s.Resolver, s.ResolverPath, s.Hosts = in.u8(), in.str(maxPath), in.boolean()
	s.Zone, s.ZoneRule, s.ZoneSum = in.str(maxPath), in.str(maxPath), in.u64()
	if s.Keys = Keys(in.u8()); s.Keys > KeysAnywhere {
		return nil, ErrMalformed
	}
	if s.Fresh = Fresh(in.u8()); s.Fresh&^freshAll != 0 {
		return nil, ErrMalformed
	}
	s.Locked, s.Devices, s.OwnRoot, s.Complete, s.MemoryEvents = in.boolean(), in.boolean(), in.boolean(), in.boolean(), in.boolean()
	s.Sessions = in.sessions()
	for n := int(in.u16()); n > 0 && !in.bad; n-- {
		e := Entry{Kind: EntryKind(in.u8()), Path: in.str(maxPath), Text: in.str(MaxString), Mode: in.u32(), UID: in.u32(), GID: in.u32(), Bytes: in.u64()}
		if e.Kind > EntryHide {
			return nil, ErrMalformed
		}
		s.Entries = append(s.Entries, e)
	}
	if s.OwnRoot && s.Rootfs != "" || !s.OwnRoot && len(s.Entries) > 0 {
		return nil, ErrMalformed
	}
	if !s.fits() || s.Resolver > ResolverByPath {
		return nil, ErrMalformed
	}
	return s, in.done()
}
