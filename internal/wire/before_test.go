package wire

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire/before"
)

// toBefore are the messages that pass between this build and the one before, encoded by
// the build this file is compiled in.
func toBefore(t *testing.T) map[string][]byte {
	request := func(r Request) []byte {
		p, err := AppendRequest(nil, &r)
		require.NoError(t, err)
		return p
	}
	bytes := func(all ...string) (list [][]byte) {
		for _, s := range all {
			list = append(list, []byte(s))
		}
		return list
	}
	modes := Termios{Iflag: 0x4500, Oflag: 5, Cflag: 0xbf, Lflag: 0x8a3b, CC: [NCCS]uint8{3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26}, Ispeed: 38400, Ospeed: 38400}
	id := Identity{HostUID: 61001, UID: 1000, GID: 100, HasGID: true, Name: "work", Home: "/home/work", Shell: "/bin/bash"}
	return map[string][]byte{
		"request, a command on pipes": request(Request{
			Stdio: [3]Stdio{StdioPassed, StdioPassed, StdioPassed}, Args: bytes("-c", "cat; exit 3"), Env: bytes("LANG=C.UTF-8"),
		}),
		"request, a command that stays": request(Request{Args: bytes("-c", "exec sleep 60")}),
		"request, a forced shell on a terminal": request(Request{
			Flags: FlagLogin | FlagForced | FlagAuthKnown | FlagAgent | FlagX11,
			Stdio: [3]Stdio{StdioTTY, StdioTTY, StdioTTY}, Winsize: Winsize{24, 80, 640, 480}, Termios: modes,
			Args: bytes("exit 4"), Env: bytes("TERM=xterm", "SSH_TTY=/dev/pts/3"),
			Auth: bytes("publickey ssh-ed25519 AAAA"), Display: []byte("localhost:10.0"), Cookie: []byte("0123456789abcdef"),
		}),
		"request, the command of a key": request(Request{Flags: FlagOriginal, Args: bytes("-c", "exit 5"), Env: bytes("SSH_ORIGINAL_COMMAND=ls")}),
		"started":                       AppendStarted(nil, Started{PID: 7}),
		"started, to be watched":        AppendStarted(nil, Started{PID: 8, Flags: FlagWatch}),
		"exited, status 3":              AppendExited(nil, Exited{Code: 3}),
		"exited, signal 9":              AppendExited(nil, Exited{Signal: 9}),
		"refused":                       AppendRefused(nil, Refused{Status: 126, ID: "0badcafe", Text: "no shell"}),
		"signal 15":                     AppendSignal(nil, Signal{Number: 15}),
		"disconnected":                  AppendDisconnected(nil),
		"hello":                         AppendHello(nil, false),
		"hello, for the log":            AppendHello(nil, true),
		"status":                        AppendStatus(nil, &Status{Name: "kept", Sessions: 2, Served: 1 << 33, Processes: true}),
		"status, stopping":              AppendStatus(nil, &Status{Name: "kept", Stopping: true}),
		"stop":                          AppendStop(nil, Stop{GraceMillis: 10_000}),
		"add a login":                   AppendAddLogin(nil, &id),
		"drop a login":                  AppendDropLogin(nil, id.HostUID),
		"log":                           AppendText(nil, TypeLog, "session 0badcafe refused: no shell"),
		"exec":                          AppendExec(nil, &Identity{Name: "root"}),
	}
}

// TestBefore: what this build says to one before is what that one's programs say to each
// other, so it is understood; and this build reads it. JAIL_TEST_RECORD=FILE in a tree of
// another build records what that one says.
func TestBefore(t *testing.T) {
	now := toBefore(t)
	if file := os.Getenv("JAIL_TEST_RECORD"); file != "" {
		var text strings.Builder
		for _, name := range slices.Sorted(maps.Keys(now)) {
			fmt.Fprintf(&text, "%s: %x\n", name, now[name])
		}
		require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o644))
		return
	}
	recorded := before.Messages()
	assert.Equal(t, slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(recorded)), "the messages of %s", before.Commit)
	for name, packet := range recorded {
		assert.Equal(t, packet, now[name], name)
		typ, flags, body, err := Header(packet)
		require.NoError(t, err, name)
		switch typ {
		case TypeRequest:
			err = DecodeRequest(packet, new(Request))
		case TypeStarted:
			_, err = DecodeStarted(flags, body)
		case TypeExited:
			_, err = DecodeExited(flags, body)
		case TypeRefused:
			_, err = DecodeRefused(body)
		case TypeSignal:
			_, err = DecodeSignal(body)
		case TypeDisconnected, TypeHello:
			assert.Empty(t, body, name)
		case TypeStatus:
			_, err = DecodeStatus(body)
		case TypeStop:
			_, err = DecodeStop(body)
		case TypeAddLogin:
			_, err = DecodeAddLogin(body)
		case TypeDropLogin:
			_, err = DecodeDropLogin(body)
		case TypeLog:
			_, err = DecodeText(body)
		case TypeExec:
			_, err = DecodeExec(body)
		default:
			t.Errorf("%s: type %d", name, typ)
		}
		assert.NoError(t, err, name)
	}
}
