package provision

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"jail/internal/count"
)

// A login is proven by a login: ssh to the sshd that runs, over the loopback address, by a
// key that is in the user's own authorized_keys for the time it takes, and counts from there
// only. Anything less would leave out what fails: the block for sshd, AllowUsers, PAM, jail-keys.

const (
	proofWithin = 60 * time.Second
	// maxProofs bounds the jails that are started for a list of logins.
	maxProofs = 10
	// proofPrefix begins the name of the directory in StateDir with a proof's key.
	proofPrefix = ".proof-"
)

// sshdSays is what sshd would do for a login from the loopback address.
type sshdSays map[string][]string

func askSSHD(login string) (sshdSays, error) {
	out, err := sshd("-T", "-C", "user="+login+",host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22")
	if errors.Is(err, errNoCommand) {
		return nil, errors.New("sshd is not installed (Debian: apt-get install openssh-server)")
	}
	if err != nil {
		return nil, err
	}
	s := make(sshdSays)
	for line := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		k = strings.ToLower(k)
		s[k] = append(s[k], v)
	}
	return s, nil
}

func (s sshdSays) get(key string) string {
	if v := s[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// sends reports whether sshd sends a login into its jail, and asks the jail for keys.
func (s sshdSays) sends() error {
	f := strings.Fields(strings.TrimPrefix(s.get("forcecommand"), "exec "))
	if len(f) < 2 || filepath.Base(f[0]) != "jail-enter" || !slices.Contains(f, "--forced") {
		return errors.New("sshd does not send members of group " + Group + " to their jails: its block for them is not installed, or another one comes first: jail setup")
	}
	return nil
}

// address is where sshd listens that can be reached from here.
func (s sshdSays) address() (host, port string) {
	host, port = "127.0.0.1", s.get("port")
	if port == "" {
		port = "22"
	}
	for i, a := range s["listenaddress"] {
		h, p, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		any := h == "0.0.0.0" || h == "::"
		if any || h == "127.0.0.1" {
			return "127.0.0.1", p
		}
		if i == 0 {
			host, port = h, p
		}
	}
	return host, port
}

// prove logs in as one login of each jail of the plan.
func (o *Options) prove(ctx context.Context, j *journal, p *Plan) error {
	jails := byJail(p)
	proven := 0
	for _, logins := range jails {
		if proven == maxProofs {
			break
		}
		took, err := o.login(ctx, j, p, logins[0])
		if err != nil {
			return fmt.Errorf("%s: a login over the loopback address does not work: %w", logins[0].Login, err)
		}
		fmt.Fprintf(o.Stdout, "%s: logged in to jail %s over the loopback address, in %v\n", logins[0].Login, logins[0].Jail, took.Round(10*time.Millisecond))
		proven++
	}
	if n := len(p.Logins) - proven; n > 0 {
		fmt.Fprintf(o.Stdout, "%s made and not tried: one login of a jail is, of %d jails at most\n", count.Of(n, "more is", "more are"), maxProofs)
	}
	return nil
}

// login logs in once.
func (o *Options) login(ctx context.Context, j *journal, p *Plan, l *Login) (time.Duration, error) {
	says, err := askSSHD(l.Login)
	if err != nil {
		return 0, err
	}
	if err := says.sends(); err != nil {
		return 0, err
	}
	for _, program := range []string{"ssh", "ssh-keygen"} {
		if _, err := lookUp(program); err != nil {
			return 0, fmt.Errorf("%w (Debian: apt-get install openssh-client)", err)
		}
	}
	dir, err := os.MkdirTemp(o.StateDir, proofPrefix)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	key := filepath.Join(dir, "key")
	if _, err := command("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "jail-add", "-f", key); err != nil {
		return 0, err
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return 0, err
	}
	host, port := says.address()
	// In sshd's time zone, which is the host's: a Z it knows since OpenSSH 9.1 only.
	line := fmt.Sprintf(`restrict,from="127.0.0.1,::1,%s",expiry-time="%s" %s`, host,
		time.Now().Add(5*time.Minute).Format("20060102150405"), strings.TrimSpace(string(public)))
	l.Keys = append(l.Keys, line)
	if err := j.write(p); err != nil {
		return 0, err
	}
	r, err := openRoot(l.Rootfs, l.Mounts)
	if err != nil {
		return 0, err
	}
	defer r.close()
	if _, err := r.asOwner(&l.Inside, opAdd, []string{line}); err != nil {
		return 0, err
	}
	took, err := try(ctx, l.Login, key, host, port)
	if _, dropErr := r.asOwner(&l.Inside, opDrop, []string{line}); dropErr != nil {
		return 0, errors.Join(err, fmt.Errorf("the key of the proof is still there, and worth nothing in five minutes: %w", dropErr))
	}
	l.Keys = l.Keys[:len(l.Keys)-1]
	return took, err
}

// try is the login.
func try(ctx context.Context, login, key, host, port string) (time.Duration, error) {
	path, err := lookUp("ssh")
	if err != nil {
		return 0, err
	}
	var random [8]byte
	rand.Read(random[:])
	token := hex.EncodeToString(random[:])
	ctx, cancel := context.WithTimeout(ctx, proofWithin)
	defer cancel()
	// More than one attempt: an sshd that reads its configuration again does not listen for a moment.
	// Whose host key it is says nothing on this address; the answer has the token, which only
	// the session can know.
	cmd := exec.CommandContext(ctx, path, "-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "ConnectTimeout=10", "-o", "ConnectionAttempts=3", "-o", "LogLevel=ERROR", "-T", "-n", "-p", port, "--", login+"@"+host, "echo "+token)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	var out, errs limited
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	err = cmd.Run()
	if ctx.Err() == context.Canceled {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("ssh: %w%s", err, said(errs.text.String()))
	}
	if !strings.Contains(out.text.String(), token) {
		return 0, errors.New("the session does not say what it was told to; its shell, or what that reads at the start, keeps it from that")
	}
	return time.Since(start), nil
}
