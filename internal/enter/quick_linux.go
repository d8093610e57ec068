package enter

import (
	"syscall"

	"jail/internal/environ"
	"jail/internal/sys"
	"jail/internal/wire"
)

// The memory of Quick, which has no heap. What is not used costs nothing.
var (
	quickArgs [64]string
	quickArgv [64][]byte
	quickEnv  [wire.MaxEnv][]byte
	quickAuth [wire.MaxAuth][]byte
	quickReq  wire.Request
	quickMsg  sys.MsgBuf
	authText  [maxAuthFile + 1]byte
	quickPath [maxQuickDir + 40]byte
	quickBuf  [wire.MaxPacket]byte
	quickIn   [16]byte // longer than any answer that says the session runs, or has ended
)

// maxQuickDir is the length of a runtime directory that leaves room for the path of
// a control socket in an address (unix(7)).
const maxQuickDir = 80

// handedOn is a connection on which Quick has sent the request, and from which the
// answer is still to be read; -1 if there is none.
var handedOn = -1

// Quick is a whole session of the commonest kind, a command on pipes with nothing
// to forward, and does not return from it. It runs before the Go runtime has
// started, whose start would take longer than all the rest: it allocates nothing,
// and waits in no system call the scheduler would have to know of.
//
// It decides nothing differently from Run, and takes no part in what is rare:
// before the request is sent it returns with nothing done, and afterwards, when the
// answer is anything but that the session runs, it returns with the connection for
// Run to read it from.
func Quick() {
	argv, ok := sys.StackArgs(quickArgs[:])
	if !ok {
		return
	}
	_ = sys.SetDumpable(false)
	in := parse(argv)
	if len(in.runtimeDir) > maxQuickDir {
		return
	}
	req := &quickReq
	sshd, ok := quickEnvironment(&in, req)
	if !ok {
		return
	}
	req.Flags |= in.flags()
	for i, a := range in.args {
		quickArgv[i] = sys.Bytes(a)
	}
	req.Args = quickArgv[:len(in.args)]

	var fds [3]int
	pass := fds[:0]
	for fd := 0; fd < 3; fd++ {
		switch judge(fd) {
		case nothing, null:
			req.Stdio[fd] = wire.StdioNull
		case passable:
			req.Stdio[fd] = wire.StdioPassed
			pass = append(pass, fd)
		default:
			return
		}
	}
	packet, err := wire.AppendRequest(quickBuf[:0], req)
	if err != nil || len(packet) == 0 || len(packet) > defaultPacket {
		return
	}
	conn, e := sys.ConnectAt(loginPath(quickPath[:0], in.runtimeDir, syscall.Getuid(), "sock"))
	if e != 0 {
		return
	}
	// Before the command can run: a signal is its, not ours, from then on.
	mask := sys.SignalMask(0)
	for _, sig := range forwarded {
		mask |= 1 << (sig - 1)
	}
	old := sys.SetSignalMask(mask)
	if sys.SendMsg(conn, packet, pass, false, &quickMsg) != nil {
		sys.SetSignalMask(old)
		sys.Close(conn)
		return
	}
	signals, e := sys.Signalfd(mask)

	fd := [3]sys.PollFD{{FD: int32(conn), Events: sys.PollIn}, {FD: int32(signals), Events: sys.PollIn}, {FD: -1}}
	watch, ok := false, e == 0
	if ok {
		watch, ok = quickStarted(conn, fd[:1])
	}
	if !ok {
		sys.SetSignalMask(old)
		sys.Close(signals)
		handedOn = conn
		return
	}
	if watch && sshd && req.Stdio[2] == wire.StdioPassed {
		fd[2].FD = 2 // for POLLERR and POLLHUP, see take
	}
	for _, fd := range pass {
		// As letGo, but nothing is opened any more that could take the number.
		if fd != 2 {
			sys.Close(fd)
		}
	}
	for {
		if _, e := sys.Wait(fd[:], -1); e != 0 {
			sys.Exit(quickLost())
		}
		if fd[1].Revents != 0 {
			quickSignal(conn, sys.NextSignal(signals))
		}
		if fd[2].Revents != 0 {
			fd[2] = sys.PollFD{FD: -1}
			_ = sys.SendMsg(conn, wire.AppendDisconnected(quickBuf[:0]), nil, false, &quickMsg) // see disconnected
		}
		if fd[0].Revents != 0 {
			n, err := sys.RecvMsg(conn, quickIn[:], false, &quickMsg)
			sys.CloseAll(quickMsg.FDs)
			signal, code, ok := wire.ParseExited(quickIn[:n])
			if err != nil || !ok || len(quickMsg.FDs) != 0 {
				sys.Exit(quickLost())
			}
			if signal != 0 {
				sys.DieBySignal(int(signal))
				sys.Exit(128 + int(signal))
			}
			sys.Exit(int(code))
		}
	}
}

// quickEnvironment fills in what comes of the environment, and reports whether sshd
// has started us. It is not ok if there is something that Quick leaves to Run.
func quickEnvironment(in *invocation, req *wire.Request) (sshd, ok bool) {
	var command, auth, connection string
	var hasCommand, hasAuth, hasConnection, forwards bool
	env := quickEnv[:0]
	for i := 0; ; i++ {
		e, ok := sys.StackEnv(i)
		if !ok {
			break
		}
		b := sys.Bytes(e)
		if v, ok := value(e, "SSH_ORIGINAL_COMMAND"); ok && !hasCommand {
			command, hasCommand = v, true
		} else if v, ok := value(e, "SSH_USER_AUTH"); ok && !hasAuth {
			auth, hasAuth = v, true
		} else if v, ok := value(e, "SSH_CONNECTION"); ok && !hasConnection {
			connection, hasConnection = v, true
		} else if v, ok := value(e, "SSH_AUTH_SOCK"); ok && v != "" {
			forwards = true
		} else if v, ok := value(e, "DISPLAY"); ok && v != "" {
			forwards = true
		}
		if environ.Allowed(b) && len(b) <= wire.MaxString && len(env) < len(quickEnv) {
			env = append(env, b)
		}
	}
	req.Env = env
	sshd = connection != ""
	if sshd && forwards {
		return sshd, false // an agent's connections, or a display's cookie
	}
	if in.forced || hasConnection {
		path := append(loginPath(quickPath[:0], in.runtimeDir, syscall.Getuid(), environ.AcceptFile), 0)
		if fd, e := sys.OpenNoWait(path, syscall.O_RDONLY|syscall.O_NONBLOCK); e == 0 {
			sys.Close(fd)
			return sshd, false // more variables may enter
		}
	}
	if !in.forced {
		return sshd, !hasCommand || !hasAuth // see originalCommand
	}
	in.login, in.args = !hasCommand, nil
	if hasCommand {
		quickArgs[0], quickArgs[1] = "-c", command
		in.args = quickArgs[:2]
	}
	if hasAuth {
		readAuth(req, auth, authText[:], quickAuth[:0])
	}
	return sshd, true
}

// quickStarted waits for the answer and takes it if it says that the session runs.
// Anything else stays in the socket.
func quickStarted(conn int, fd []sys.PollFD) (watch, ok bool) {
	// A signal waits in its descriptor until there is somebody to have it: let out
	// now, it would end us, and the command with us.
	if n, e := sys.Wait(fd, answerWait); e != 0 || n == 0 {
		return false, false
	}
	n, e := sys.Peek(conn, quickIn[:])
	if e != 0 {
		return false, false
	}
	if watch, ok = wire.ParseStarted(quickIn[:n]); !ok {
		return false, false
	}
	n, err := sys.RecvMsg(conn, quickIn[:], false, &quickMsg)
	if err != nil || n == 0 || len(quickMsg.FDs) != 0 {
		sys.CloseAll(quickMsg.FDs)
		say("cannot enter the jail: its answer makes no sense")
		sys.Exit(exitFailure)
	}
	return watch, true
}

// quickSignal passes a signal on to the session.
func quickSignal(conn, sig int) {
	if sig == 0 || sys.SignalIgnored(sig) {
		return
	}
	_ = sys.SendMsg(conn, wire.AppendSignal(quickBuf[:0], wire.Signal{Number: uint8(sig)}), nil, false, &quickMsg)
}

func quickLost() int {
	say(lostText)
	return exitFailure
}
