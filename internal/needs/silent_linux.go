package needs

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// silentEnv says to a test's own program, run again by RunBesideSilent, below which
// directory the file system is to be.
const silentEnv = "JAIL_TEST_FUSE"

// silentWait bounds what must not wait for the file system.
const silentWait = time.Minute

// Silent returns the directory that RunBesideSilent was given, if it has started this
// process: in it "dead" is a file system that takes every request and answers none, seen by
// this process and its children only. Elsewhere it is "".
func Silent(t testing.TB) (dir string) {
	t.Helper()
	if dir = os.Getenv(silentEnv); dir == "" {
		return ""
	}
	for _, err := range []error{
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("dead", dir+"/dead", "fuse", syscall.MS_NOSUID|syscall.MS_NODEV, "fd=3,rootmode=40000,user_id=0,group_id=0,allow_other"),
		syscall.Close(3),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// RunBesideSilent runs the test that calls it once more, in a process for which Silent is
// dir, and returns the line that begins with RESULT of what that prints. The process has a
// minute for it, and another one to end, unless it may wait for the file system with that.
func RunBesideSilent(t *testing.T, dir string, mayWait bool, env ...string) (says string) {
	t.Helper()
	Root(t, "it mounts")
	device, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	Machine(t, err == nil, "FUSE is needed")
	fs := os.NewFile(uintptr(device), "fuse")
	defer fs.Close() // which ends every wait
	if err := os.Mkdir(dir+"/dead", 0o755); err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$")
	cmd.Env = append(append(os.Environ(), silentEnv+"="+dir), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{fs}, os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go answerInitOnly(fs)
	result, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "RESULT ") {
				result <- lines.Text()
			}
		}
		ended <- cmd.Wait()
	}()
	select {
	case says = <-result:
	case err := <-ended:
		t.Fatalf("no result: %v", err)
	case <-time.After(silentWait):
		t.Fatal("somebody waits for the file system")
	}
	if mayWait {
		fs.Close()
	}
	select {
	case err := <-ended:
		if err != nil && !mayWait {
			t.Errorf("the process that has asked: %v", err)
		}
	case <-time.After(silentWait):
		t.Error("the process that has asked cannot end")
	}
	return says
}

// answerInitOnly is a FUSE server that has stopped after FUSE_INIT (fuse(4)).
func answerInitOnly(fs io.ReadWriter) {
	const opInit, header = 26, 40
	buf := make([]byte, 1<<17)
	for {
		n, err := fs.Read(buf)
		if err != nil || n < header {
			return
		}
		if le := binary.LittleEndian; le.Uint32(buf[4:]) == opInit {
			reply := make([]byte, 16+64)
			le.PutUint32(reply, uint32(len(reply)))
			copy(reply[8:16], buf[8:16])
			le.PutUint32(reply[16:], 7)
			le.PutUint32(reply[20:], 31)
			le.PutUint32(reply[36:], 4096) // max_write
			if _, err := fs.Write(reply); err != nil {
				return
			}
		}
	}
}

// Main is what TestMain does where a test has its own program look at something: with the
// variable JAIL_TEST_LOOK the program is look, and runs no test.
func Main(m *testing.M, look func(in io.Reader, out io.Writer) error) {
	if os.Getenv("JAIL_TEST_LOOK") == "" {
		os.Exit(m.Run())
	}
	if err := look(os.Stdin, os.Stdout); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}
