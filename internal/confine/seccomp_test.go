package confine

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
)

// run interprets a filter for one system call, as seccomp(2) does.
func run(t *testing.T, prog []sys.SockFilter, arch, nr uint32, args ...uint64) uint32 {
	var data [64]byte
	binary.LittleEndian.PutUint32(data[0:], nr)
	binary.LittleEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		jump := func(cond bool) {
			if cond {
				pc += int(in.JT)
			} else {
				pc += int(in.JF)
			}
		}
		switch in.Code {
		case 0x20:
			acc = binary.LittleEndian.Uint32(data[in.K:])
		case 0x54:
			acc &= in.K
		case 0x06:
			return in.K
		case 0x15:
			jump(acc == in.K)
		case 0x35:
			jump(acc >= in.K)
		case 0x45:
			jump(acc&in.K != 0)
		default:
			t.Fatalf("instruction %#x", in.Code)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

var update = flag.Bool("update", false, "rewrite the table of the filter")

// TestTable holds the table that is installed to the rules it is made from.
func TestTable(t *testing.T) {
	want := assemble()
	if *update {
		var b strings.Builder
		b.WriteString("package confine\n\nimport \"jail/internal/sys\"\n\n// filter is what assemble makes; go test ./internal/confine -update writes it.\nvar filter = [...]sys.SockFilter{\n")
		for _, in := range want {
			fmt.Fprintf(&b, "\t{Code: %#x, JT: %d, JF: %d, K: %#x},\n", in.Code, in.JT, in.JF, in.K)
		}
		b.WriteString("}\n")
		require.NoError(t, os.WriteFile("filter_amd64.go", []byte(b.String()), 0o644))
	}
	assert.Equal(t, want, Filter())
}

func TestFilter(t *testing.T) {
	const (
		eP = retErrno | eperm
		eN = retErrno | enosys
		eF = retErrno | eafnosupport
		eO = retErrno | eprotonosupport
	)
	prog := Filter()
	for claim, c := range map[string]struct {
		arch, nr uint32
		args     []uint64
		want     uint32
	}{
		"read passes":                             {archX8664, 0, nil, retAllow},
		"execve passes":                           {archX8664, 59, nil, retAllow},
		"chroot passes, for daemons inside":       {archX8664, 161, nil, retAllow},
		"openat2 passes":                          {archX8664, 437, nil, retAllow},
		"a foreign architecture dies":             {0xc00000b7, 0, nil, retKillProcess},
		"x32 does not exist":                      {archX8664, x32Bit | 0, nil, eN},
		"clone3 does not exist":                   {archX8664, 435, nil, eN},
		"io_uring does not exist":                 {archX8664, 425, nil, eN},
		"io_uring does not exist in 32 bits":      {archI386, 425, nil, eN},
		"the mount API does not exist":            {archX8664, 428, nil, eN},
		"a call newer than this list does not":    {archX8664, newestKnown + 1, nil, eN},
		"mount is denied":                         {archX8664, 165, nil, eP},
		"mount is denied in 32 bits":              {archI386, 21, nil, eP},
		"keyctl is denied":                        {archX8664, 250, nil, eP},
		"add_key is denied in 32 bits":            {archI386, 286, nil, eP},
		"open_by_handle_at is denied":             {archX8664, 304, nil, eP},
		"bpf is denied":                           {archX8664, 321, nil, eP},
		"clone of a process passes":               {archX8664, 56, []uint64{17}, retAllow},
		"clone of a thread passes":                {archX8664, 56, []uint64{0x3d0f00}, retAllow},
		"clone of a user namespace is denied":     {archX8664, 56, []uint64{0x10000011}, eP},
		"also with high bits set":                 {archX8664, 56, []uint64{1<<40 | 0x10000011}, eP},
		"unshare of files passes":                 {archX8664, 272, []uint64{0x400}, retAllow},
		"unshare of a user namespace is denied":   {archX8664, 272, []uint64{0x10000000}, eP},
		"unshare of a time namespace is denied":   {archX8664, 272, []uint64{0x80}, eP},
		"unshare is denied in 32 bits":            {archI386, 310, []uint64{0x10000000}, eP},
		"TIOCSTI is denied":                       {archX8664, 16, []uint64{0, 0x5412}, eP},
		"TIOCSTI with high bits set is denied":    {archX8664, 16, []uint64{0, 1<<32 | 0x5412}, eP},
		"TIOCLINUX is denied":                     {archX8664, 16, []uint64{0, 0x541c}, eP},
		"TCGETS passes":                           {archX8664, 16, []uint64{0, 0x5401}, retAllow},
		"TIOCSTI is denied in 32 bits":            {archI386, 54, []uint64{0, 0x5412}, eP},
		"a unix socket passes":                    {archX8664, 41, []uint64{1, 1}, retAllow},
		"a TCP socket passes":                     {archX8664, 41, []uint64{2, 1 | 0x80800}, retAllow},
		"a UDP6 socket passes":                    {archX8664, 41, []uint64{10, 2}, retAllow},
		"a raw socket is denied":                  {archX8664, 41, []uint64{2, 3 | 0x80000, 1}, eP},
		"a raw IPv6 socket is denied":             {archX8664, 41, []uint64{10, 3}, eP},
		"a ping socket passes":                    {archX8664, 41, []uint64{2, 2, 1}, retAllow},
		"a packet socket has no family":           {archX8664, 41, []uint64{17, 3}, eF},
		"vsock has no family":                     {archX8664, 41, []uint64{40, 1}, eF},
		"AF_ALG has no family":                    {archX8664, 41, []uint64{38, 5}, eF},
		"a TCP socket by name passes":             {archX8664, 41, []uint64{2, 1, 6}, retAllow},
		"an MPTCP socket passes":                  {archX8664, 41, []uint64{2, 1, 262}, retAllow},
		"an ICMPv6 ping socket passes":            {archX8664, 41, []uint64{10, 2, 58}, retAllow},
		"DCCP is no protocol":                     {archX8664, 41, []uint64{2, 6, 33}, eO},
		"SCTP is no protocol":                     {archX8664, 41, []uint64{2, 1, 132}, eO},
		"nor is it over IPv6":                     {archX8664, 41, []uint64{10, 5, 132}, eO},
		"SMC is no protocol, high bits or not":    {archX8664, 41, []uint64{2, 1, 1<<32 | 256}, eO},
		"L2TP is no protocol in 32 bits":          {archI386, 359, []uint64{2, 2, 115}, eO},
		"route netlink passes":                    {archX8664, 41, []uint64{16, 3, 0}, retAllow},
		"socket diagnostics pass":                 {archX8664, 41, []uint64{16, 3, 4}, retAllow},
		"audit netlink has no family":             {archX8664, 41, []uint64{16, 3, 9}, eF},
		"uevents have no family":                  {archX8664, 41, []uint64{16, 3, 15}, eF},
		"audit has no family in 32 bits":          {archI386, 359, []uint64{16, 3, 9}, eF},
		"socketcall cannot make a socket":         {archI386, 102, []uint64{1}, eN},
		"socketcall can connect":                  {archI386, 102, []uint64{3}, retAllow},
		"an ordinary personality passes":          {archX8664, 135, []uint64{0}, retAllow},
		"a query of the personality passes":       {archX8664, 135, []uint64{0xffffffff}, retAllow},
		"READ_IMPLIES_EXEC is denied":             {archX8664, 135, []uint64{0x400000}, eP},
		"personality's high bits do not help":     {archX8664, 135, []uint64{1<<32 | 0x400000}, eP},
		"amd64's numbers mean nothing in 32 bits": {archI386, 165, nil, retAllow},
		"32-bit read passes":                      {archI386, 3, nil, retAllow},
	} {
		assert.Equalf(t, c.want, run(t, prog, c.arch, c.nr, c.args...), "%s", claim)
	}
}

func TestCapsFor(t *testing.T) {
	root := CapsFor(false, false)
	assert.Zero(t, root.Bounding, "in root mode nobody can have a capability")
	assert.True(t, root.NoNewPrivs, "nor can a set-uid program give one")
	for claim, s := range map[string]Sets{"userns": CapsFor(true, false), "container_root": CapsFor(false, true)} {
		assert.False(t, s.NoNewPrivs, claim)
		for _, c := range []sys.Caps{sys.CapSysAdmin, sys.CapSysPtrace, sys.CapMknod, sys.CapSysResource, 1 << 2, 1 << 12, 1 << 13, 1 << 29} {
			assert.Zero(t, s.Bounding&c, claim)
			assert.Zero(t, s.PID1&c, claim)
		}
	}
	assert.Zero(t, CapsFor(false, true).Bounding&sys.CapSetfcap, "file capabilities on files the host sees")
}
