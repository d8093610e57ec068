package keys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"jail/config"
	"jail/internal/authkeys"
	"jail/internal/rootpath"
	"jail/internal/sys"
	"jail/internal/wire"
)

// "jail doctor" logs in by a key that it makes for that, and that is nowhere in a jail. For
// the seconds of a run it is in a file of RUNTIMEDIR/proof, which has the login's name: root
// alone can write there, or find out what is there. jail-keys prints a line for that key, and
// for no other, if sshd asks about just that one. The line lets nobody in from elsewhere than
// this machine; PID 1 takes the key for as long as doctor is connected to it (wire.Proof), so
// that the file alone opens nothing.

const (
	proofDir = "proof"
	maxProof = 4096
)

// errProof says that somebody else proves the same login.
var errProof = errors.New("another jail doctor is at this login")

// WriteProof has jail-keys print a line for a key, by which a login may come from the
// addresses of from, for as long as a Proof may count. key is its type and its base64. The
// file is gone after remove, and worth nothing after its time or a boot.
func WriteProof(runtimeDir, login, key string, from []string) (remove func(), err error) {
	dir := filepath.Join(runtimeDir, proofDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	fd, err := openProofs(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	until := sys.MonotonicMillis() + wire.MaxProofMillis
	text := fmt.Sprintf("%d\nfrom=\"%s\" %s\n", until, strings.Join(from, ","), key)
	if strings.ContainsAny(key+strings.Join(from, ""), "\n\"\x00") {
		return nil, errNoProof
	}
	if _, err := authkeys.Parse([]byte(strings.Split(text, "\n")[1])); err != nil {
		return nil, fmt.Errorf("the key of the proof: %w", err)
	}
	if old, err := readProof(fd, login); err == nil && old.until > sys.MonotonicMillis() && running(old.pid) {
		return nil, errProof
	}
	sweepProofs(dir, fd)
	text = strconv.Itoa(os.Getpid()) + "\n" + text
	if err := rootpath.WriteAt(fd, login, []byte(text), 0o600, -1, -1); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, login)
	return func() {
		_ = os.Remove(path)
		_ = os.Remove(dir) // if nobody else has one there
	}, nil
}

// sweepProofs removes what doctors have left that were killed.
func sweepProofs(dir string, fd int) {
	names, _ := os.ReadDir(dir)
	for _, e := range names {
		p, err := readProof(fd, e.Name())
		if err == nil && (p.until <= sys.MonotonicMillis() || !running(p.pid)) {
			_ = sys.Unlinkat(fd, e.Name(), 0)
		}
	}
}

func running(pid int) bool { return pid > 0 && unix.Kill(pid, 0) == nil && pid != os.Getpid() }

// openProofs opens the directory, if it is root's alone.
func openProofs(dir string) (int, error) {
	fd, err := rootpath.OpenDir(dir, unix.O_RDONLY)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0) {
		err = fmt.Errorf("%s: must be root's alone (uid %d, mode %04o)", dir, st.Uid, st.Mode&0o7777)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// proof is what is in a file.
type proof struct {
	pid   int
	until int64 // on CLOCK_BOOTTIME
	key   authkeys.Key
}

var errNoProof = errors.New("no proof")

func readProof(dirFD int, login string) (*proof, error) {
	fd, err := unix.Openat(dirFD, login, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 || st.Size > maxProof {
		return nil, errNoProof
	}
	buf := make([]byte, maxProof)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(buf[:n]), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return nil, errNoProof
	}
	var p proof
	if p.pid, err = strconv.Atoi(lines[0]); err != nil {
		return nil, errNoProof
	}
	if p.until, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return nil, errNoProof
	}
	if p.key, err = authkeys.Parse([]byte(lines[2])); err != nil || p.key.CertAuthority || p.key.HasCommand || !p.key.HasFrom {
		return nil, errNoProof
	}
	return &p, nil
}

// proofLine returns the line for the key that sshd asks about, if doctor has it in its
// hands; nil if not, which is no doubt about anything else.
func proofLine(req request) []byte {
	if req.offer == nil || os.Geteuid() != 0 {
		return nil
	}
	runtimeDir := req.runtimeDir
	if runtimeDir == "" {
		runtimeDir = config.DefaultRuntimeDir
	}
	fd, err := openProofs(filepath.Join(runtimeDir, proofDir))
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	p, err := readProof(fd, req.user)
	now := sys.MonotonicMillis()
	if err != nil || now >= p.until || p.until-now > wire.MaxProofMillis || !p.key.Matches(*req.offer) {
		return nil
	}
	return append(p.key.Encode(bindingFor(os.Executable())), '\n')
}
