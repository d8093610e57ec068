// Package inside looks at jails as a login meets them: the root directory, who the login
// is, its shell, home and keys, and whether the file systems can be mounted with mapped ids.
// It uses jail-keys' own code for what jail-keys looks at, so that the two agree.
//
// Everything there is a tenant's to write, or on a file system that does not answer. So it
// is another process that looks, "jail-init look-inside", which can be left behind; in that,
// a thread for each login that has no more than the login's rights.
package inside

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jail/internal/audit"
	"jail/internal/jail"
	"jail/internal/keys"
	"jail/internal/launch"
	"jail/internal/login"
	"jail/internal/rootpath"
	"jail/internal/source"
	"jail/internal/wire"
)

var (
	// answerWithin is how long one login may take.
	answerWithin = 2 * time.Second
	// lookWithin is how long all of them may take, a second for a thousand more. Whoever
	// has not been looked at by then counts as one that does not answer.
	lookWithin = 10 * time.Second
)

const (
	// lookers bounds how many are looked at side by side, and so how many threads a file
	// system that does not answer can hold.
	lookers = 16
)

// seen is a line that the other process writes: what it has to say of one login.
type seen struct {
	Index   int // of the login among all of them
	Remarks []audit.Remark
}

// Look has the process that command starts look at the jails, and returns what it has to
// say. It comes back in seconds, whatever the jails are on.
func Look(command []string, jails []jail.Spec) ([]audit.Remark, error) {
	logins := 0
	for i := range jails {
		logins += len(jails[i].Logins)
	}
	if logins == 0 {
		return nil, nil
	}
	in, feed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stderr, cmd.Dir = in, os.Stderr, "/"
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	in.Close()
	if err != nil {
		feed.Close()
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		go cmd.Wait() // nobody waits for what waits for a file system
	}()
	go func() {
		defer feed.Close()
		w := bufio.NewWriter(feed)
		if json.NewEncoder(w).Encode(jails) == nil {
			_ = w.Flush()
		}
	}()
	told := make([]*seen, logins)
	done := make(chan error, 1)
	go func() {
		left := logins
		for lines := json.NewDecoder(out); left > 0; {
			var s seen
			if err := lines.Decode(&s); err != nil || s.Index < 0 || s.Index >= logins || told[s.Index] != nil {
				done <- errors.New("the process that looks into jails has ended early")
				return
			}
			told[s.Index] = &s
			left--
		}
		done <- nil
	}()
	select {
	case err = <-done:
	case <-time.After(lookWithin + time.Duration(logins)*time.Millisecond):
		_ = cmd.Process.Kill()
		out.Close()
		<-done
		err = nil
	}
	if err != nil {
		return nil, err
	}
	var all []audit.Remark
	n := 0
	for i := range jails {
		for k := range jails[i].Logins {
			if s := told[n]; s != nil {
				all = append(all, s.Remarks...)
			} else {
				all = append(all, silent(&jails[i], &jails[i].Logins[k]))
			}
			n++
		}
	}
	return all, nil
}

func remark(sev audit.Severity, id string, spec *jail.Spec, lg *jail.Login, what, fix string) audit.Remark {
	return audit.Remark{Severity: sev, ID: id, Jail: spec.Name, Login: lg.Name, Where: "jail " + audit.JailName, What: what, Fix: fix}
}

func silent(spec *jail.Spec, lg *jail.Login) audit.Remark {
	return remark(audit.Error, "inside-silent", spec, lg, "its file system ("+source.Of(spec).String()+" or a mount) does not answer in time, so nobody's login can be looked at, and none works", "mend or unmount it")
}

// Serve is the other process: it reads the jails and writes what it has to say of each
// login, in any order.
func Serve(r io.Reader, w io.Writer) error {
	var jails []jail.Spec
	if err := json.NewDecoder(r).Decode(&jails); err != nil {
		return err
	}
	type job struct {
		index int
		spec  *jail.Spec
		lg    *jail.Login
	}
	var jobs []job
	for i := range jails {
		for k := range jails[i].Logins {
			jobs = append(jobs, job{len(jobs), &jails[i], &jails[i].Logins[k]})
		}
	}
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	var mu sync.Mutex
	var failed error
	tell := func(i int, remarks []audit.Remark) {
		mu.Lock()
		defer mu.Unlock()
		if err := lines.Encode(seen{i, remarks}); err != nil && failed == nil {
			failed = err
		}
	}
	maps := &idmaps{known: map[uint64]error{}}
	next := make(chan job)
	var wait sync.WaitGroup
	for range min(lookers, max(2, 2*runtime.GOMAXPROCS(0))) {
		wait.Go(func() {
			for j := range next {
				found := make(chan []audit.Remark, 1) // whoever comes back late finds room
				go func() { found <- lookAt(j.spec, j.lg, maps) }()
				timer := time.NewTimer(answerWithin)
				select {
				case remarks := <-found:
					tell(j.index, remarks)
				case <-timer.C:
					tell(j.index, []audit.Remark{silent(j.spec, j.lg)})
				}
				timer.Stop()
			}
		})
	}
	for _, j := range jobs {
		next <- j
	}
	close(next)
	wait.Wait()
	return errors.Join(failed, out.Flush())
}

// idmaps knows of which file systems mounts can have mapped ids, by device.
type idmaps struct {
	mu    sync.Mutex
	known map[uint64]error
}

// of tries it with the directory or file that fd, an O_PATH descriptor, is.
func (m *idmaps) of(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err, known := m.known[uint64(st.Dev)]
	if !known {
		err = launch.CanMapIDs(fd)
		m.known[uint64(st.Dev)] = err
	}
	return err
}

// lookAt looks at one login.
func lookAt(spec *jail.Spec, lg *jail.Login, maps *idmaps) (found []audit.Remark) {
	say := func(sev audit.Severity, id, what, fix string) {
		found = append(found, remark(sev, id, spec, lg, what, fix))
	}
	src := source.Of(spec)
	// An ordinary user's jails are his own on the disk, and no sshd asks for their keys.
	rootless := os.Geteuid() != 0
	// Of other sources what is seen from here is not all that is seen inside.
	whole := spec.Source.Kind == jail.Directory
	if spec.Userns.Enabled && !rootless && lg == &spec.Logins[0] {
		for _, p := range mapped(spec, whole) {
			if fd, err := rootpath.OpenHost(p, unix.O_PATH); err == nil {
				if errors.Is(maps.of(fd), launch.ErrNoIDMaps) {
					say(audit.Error, "inside-idmap", "the file system of "+p+" cannot be mounted with mapped ids, so the jail does not start", "move it to ext4, xfs or btrfs, or write userns = false for the jail")
				}
				unix.Close(fd)
			}
		}
	}
	if dir := src.HostFiles(); dir != "" {
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) { // the same for all cages there are
			say(audit.Warning, "inside-closed", "was not looked into: serve prepares what it shows of the host's /etc, and has not done so yet", "systemctl start jail, and jail check again")
			return found
		}
	}
	keys.Look(spec, lg, func(s *keys.Seen) {
		if spec.Source.Kind == jail.Host && errors.Is(s.Err, fs.ErrNotExist) {
			say(audit.Error, "inside-closed", "cannot be looked into: "+s.Err.Error()+"; jail-init serve prepares it when it reads the registry", "jail reload")
			return
		}
		if s.Err != nil {
			say(audit.Error, "inside-closed", "cannot be looked into: "+s.Err.Error(), "look at "+src.String()+" and what the registry mounts")
			return
		}
		if whole && !checkRoot(s, lg, src.String(), rootless, say) {
			return // whatever else does not work follows from it
		}
		exec := "jail exec " + audit.JailName + " "
		if s.UserErr != nil {
			say(audit.Error, "inside-user", s.UserErr.Error(), exec+"useradd -u "+fmt.Sprint(lg.UID)+" -m NAME, or name and shell in the registry")
			return
		}
		groups := groupsOf(s)
		if whole {
			checkHome(s, lg, groups, exec, say)
			checkShell(s, groups, spec.SFTP != wire.SFTPOff, exec, say)
		}
		switch {
		case rootless:
			return
		case s.KeysErr != nil:
			say(audit.Error, "inside-keys", "jail-keys lets in no key: "+s.KeysErr.Error(), "mend that inside: jail exec "+audit.JailName)
		case s.Note != "":
			say(audit.Note, "inside-keys-line", "~/"+login.KeysFile+" inside: "+s.Note, "jail key "+audit.LoginName+" ls")
		}
		if s.KeysErr == nil && s.Keys == 0 {
			say(audit.Note, "inside-no-keys", "there is no key in ~/"+login.KeysFile+" inside, so nobody logs in by one", "jail key "+audit.LoginName+" add FILE")
		}
	})
	return found
}

// mapped are the places that are mounted with mapped ids when a jail starts: its root
// directory, if it has a whole one, and what the registry mounts, unless the login keeps its
// ids where they cannot be mapped (package launch, shift).
func mapped(spec *jail.Spec, whole bool) (places []string) {
	if whole {
		places = append(places, spec.Source.Path)
	}
	for _, m := range spec.Mounts {
		if !spec.Userns.Keep {
			places = append(places, m.Source)
		}
	}
	return places
}

type sayer func(sev audit.Severity, id, what, fix string)

// checkRoot looks at the root directory itself. It reports whether the login can be in it.
func checkRoot(s *keys.Seen, lg *jail.Login, dir string, rootless bool, say sayer) bool {
	var st unix.Stat_t
	if err := unix.Fstat(s.Tree.Root, &st); err != nil {
		say(audit.Error, "inside-closed", "cannot be looked into: "+err.Error(), "look at "+dir)
		return false
	}
	mode := fmt.Sprintf("%04o", st.Mode&0o7777)
	if st.Uid != 0 && !rootless {
		say(audit.Warning, "inside-root-owner", fmt.Sprintf("%s belongs to uid %d and not to 0, so that uid inside can put another /etc, /bin or /lib there for everybody in the jail", dir, st.Uid), "chown 0:0 "+dir)
	}
	if st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		say(audit.Warning, "inside-root-owner", dir+" has mode "+mode+", so others than its owner can put another /etc, /bin or /lib there", "chmod go-w "+dir)
	}
	if !may(&st, uint32(lg.UID), []uint32{uint32(lg.UID)}, 1) && !(lg.HasGID && may(&st, uint32(lg.UID), []uint32{uint32(lg.GID)}, 1)) {
		say(audit.Error, "inside-closed", dir+" has mode "+mode+", so the login may not enter it: no session starts and no key is found", "chmod 0755 "+dir)
		return false
	}
	return true
}

// may reports whether the mode bits give somebody a right: 4, 2 or 1, as in one digit.
func may(st *unix.Stat_t, uid uint32, groups []uint32, want uint32) bool {
	switch {
	case st.Uid == uid:
		return st.Mode>>6&want == want
	case slices.Contains(groups, st.Gid):
		return st.Mode>>3&want == want
	}
	return st.Mode&want == want
}

func groupsOf(s *keys.Seen) []uint32 {
	text, _, err := s.Tree.ReadFile("/etc/group", login.MaxDatabase)
	if err != nil {
		text = nil
	}
	return login.Groups(nil, &s.User, text)
}

// checkHome looks where sessions begin. sshd would let one in whose home is not there, and
// so does PID 1: it says so and begins in /.
func checkHome(s *keys.Seen, lg *jail.Login, groups []uint32, exec string, say sayer) {
	home := s.User.Home
	if !path.IsAbs(home) {
		return // for keys that is an error, which is told
	}
	fd, st, err := s.Tree.WalkDir(home)
	if err == nil {
		unix.Close(fd)
	}
	const what = "the home directory of the user inside, "
	make := exec + "sh -c 'mkdir -p " + home + " && chown " + fmt.Sprintf("%d:%d", s.User.UID, s.User.GID) + " " + home + "'"
	switch {
	case errors.Is(err, unix.ENOENT):
		if home != "/" {
			say(audit.Warning, "inside-home", what+home+", does not exist, so sessions begin in /", make)
		}
	case err != nil:
		say(audit.Warning, "inside-home", what+home+", cannot be entered: "+err.Error(), make)
	case !may(&st, s.User.UID, groups, 1):
		say(audit.Warning, "inside-home", fmt.Sprintf("%s%s, has mode %04o and is uid %d's, so the user cannot enter it", what, home, st.Mode&0o7777, st.Uid), make)
	case st.Uid != s.User.UID && home != "/" && st.Uid != 0:
		say(audit.Note, "inside-home", fmt.Sprintf("%s%s, belongs to uid %d, not to %d", what, home, st.Uid, s.User.UID), make)
	}
}

// checkShell looks whether the user's shell is a program. With sftp, one that lets nobody in may
// be what is wanted: sshd's internal-sftp needs none, nor that it is there.
func checkShell(s *keys.Seen, groups []uint32, sftp bool, exec string, say sayer) {
	shell := s.User.Shell
	const what = "the shell of the user inside, "
	const fix = "give it another: "
	change := exec + "usermod -s /bin/sh " + s.User.Name + ", or shell in the registry"
	if !path.IsAbs(shell) {
		say(audit.Error, "inside-shell", what+shell+", is not an absolute path, so no session starts", fix+change)
		return
	}
	if base := path.Base(shell); sftp && (base == "nologin" || base == "false") {
		say(audit.Warning, "inside-shell", what+shell+", lets nobody in but by sftp, where sshd has Subsystem sftp internal-sftp", change)
		return
	}
	var st unix.Stat_t
	f, err := s.Tree.Walk("/", shell, func(_ string, is *unix.Stat_t) error { st = *is; return nil })
	switch {
	case errors.Is(err, unix.EACCES):
		// The login's groups might let it in, which it does not have here.
		say(audit.Warning, "inside-shell", what+shell+", is in a directory that is not for everybody", change)
		return
	case errors.Is(err, unix.ENOENT):
		say(audit.Error, "inside-shell", what+shell+", does not exist, so no session starts", fix+change)
		return
	case err != nil:
		say(audit.Error, "inside-shell", what+shell+", is no program: "+err.Error(), fix+change)
		return
	}
	f.Close()
	if !may(&st, s.User.UID, groups, 1) {
		say(audit.Error, "inside-shell", fmt.Sprintf("%s%s, has mode %04o and cannot be run by the user", what, shell, st.Mode&0o7777), exec+"chmod 0755 "+shell)
	}
	if base := path.Base(shell); base == "nologin" || base == "false" {
		say(audit.Error, "inside-shell", what+shell+", lets nobody in", fix+change)
	}
}
