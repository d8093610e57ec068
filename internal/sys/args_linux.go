package sys

import "syscall"

// Args returns the command line as /proc/self/cmdline has it (proc_pid_cmdline(5)),
// nil if that cannot be read. It is for programs without package os, whose
// initialisation costs a short process a fifth of its start.
func Args() []string {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer Close(fd)
	text := make([]byte, 0, 4096)
	for {
		if len(text) == cap(text) {
			text = append(text, 0)[:len(text)]
		}
		n, err := Read(fd, text[len(text):cap(text)])
		if err != nil {
			return nil
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
	}
	var args []string
	for start, i := 0, 0; i < len(text); i++ {
		if text[i] == 0 {
			args = append(args, string(text[start:i]))
			start = i + 1
		}
	}
	return args
}
