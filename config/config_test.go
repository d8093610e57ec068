package config

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/environ"
	"jail/internal/jail"
	"jail/internal/wire"
)

const testPasswd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
centos:x:1500:1500::/home/centos:/usr/bin/jail-enter
alice:x:1501:1501::/home/alice:/usr/bin/jail-enter
bob:x:1502:1502::/home/bob:/usr/bin/jail-enter
carol:x:1503:1503::/home/carol:/usr/bin/jail-enter
twin1:x:1600:1600::/:/bin/sh
twin2:x:1600:1600::/:/bin/sh
admin:x:1700:1700::/home/admin:/bin/bash
docky:x:1701:995::/home/docky:/bin/bash
wrap:x:65535:1702::/:/bin/sh
high:x:90000:90000::/:/bin/sh
`

const testGroup = `root:x:0:
sudo:x:27:admin
docker:x:995:
users:x:100:alice,bob
centos:x:1500:
`

const testSub = "carol:300000:65536\n"

func testOptions() Options {
	euid := uint32(0)
	return Options{
		Passwd: []byte(testPasswd), Group: []byte(testGroup), SubUID: []byte(testSub), SubGID: []byte{},
		SkipFS: true, euid: &euid,
	}
}

// load validates files given by name; the main file is /etc/jail/jail.toml.
func load(t testing.TB, opt Options, files ...string) (*Registry, Errors) {
	t.Helper()
	var sources []source
	for i, text := range files {
		p := DefaultPath
		if i > 0 {
			p = "/etc/jail/jail.d/" + string(rune('a'+i-1)) + ".toml"
		}
		sources = append(sources, source{path: p, text: []byte(text)})
	}
	var ps problems
	opt = opt.complete(&ps)
	reg, err := build(ps, DefaultPath, sources, opt)
	noFaultIsInForce(t, reg)
	if err == nil {
		return reg, reg.Errors()
	}
	var errs Errors
	require.ErrorAs(t, err, &errs)
	require.Empty(t, reg.Jails)
	require.Empty(t, reg.Faults)
	return reg, errs
}

// noFaultIsInForce holds a registry to what it promises of its faults.
func noFaultIsInForce(t testing.TB, reg *Registry) {
	t.Helper()
	in := map[string]bool{}
	for _, j := range reg.Jails {
		require.NotEmpty(t, j.Logins, "%s", j.Name)
		require.NotEmpty(t, reg.Files[j.Name])
		for _, l := range j.Logins {
			require.False(t, in[l.Name], "%s lands twice", l.Name)
			in[l.Name] = true
		}
	}
	for _, f := range reg.Faults {
		require.NotEmpty(t, f.Errors)
		if f.Jail != "" && len(f.Logins) == 0 {
			continue
		}
		for _, l := range f.Logins {
			require.False(t, in[l.Name], "%s is in force in spite of %v", l.Name, f.Errors)
		}
	}
}

// jailText is a valid registry with one jail, and lines added to the jail.
func jailText(lines string) string {
	return "version = 1\n[jail.web]\nrootfs = \"/srv/web\"\nusers = [\"alice\"]\n" + lines
}

// 0 is a choice like another: it wins over a number of [defaults].
func TestNoLimitOnProcesses(t *testing.T) {
	for lines, want := range map[string]jail.Limits{
		"":                               {Pids: 7},
		"limits = { pids = 0 }":          {PidsUnlimited: true},
		"limits = { pids = 12 }":         {Pids: 12},
		"limits = { io_weight = 10000 }": {Pids: 7, IOWeight: 10_000},
		"limits = { disk = \"10G\", files = 500000 }": {Pids: 7, DiskBytes: 10 << 30, Files: 500_000},
	} {
		reg, errs := load(t, testOptions(), jailText(lines)+"\n[defaults]\nlimits = { pids = 7 }\n")
		require.Empty(t, errs, lines)
		assert.Equal(t, want, reg.Jails[0].Limits, lines)
	}
}

func TestEveryJailKeyReachesTheSpec(t *testing.T) {
	reg, errs := load(t, testOptions(), `version = 1
[defaults]
idle_timeout = "1h"
on_disconnect = "hup"
x11 = true
record = "tty"
record_input = true
log_commands = "full"
env    = { A = "default", B = "b" }
env_accept = ["EDITOR", "GIT_*"]
resolv_conf = "rootfs"
timezone = "Europe/Paris"
limits = { memory = "512M", pids = 7 }
mounts = [ { source = "/srv/shared", target = "/shared" }, { source = "/srv/doc", target = "/doc" } ]

[jail.web]
rootfs = "/srv/web"
uid = 2000
gid = 2001
hostname = "web.example"
userns = { base = 200000, size = 65536 }
idle_timeout = "90s"
autostart = true
container_root = false
x11 = false
on_disconnect = "keep"
env = { A = "jail" }
env_accept = ["APP_*", "EDITOR"]
resolv_conf = "host"
timezone = "host"
record = "off"
log_commands = "none"
limits = { memory = "1G", cpu = "150%" }
mounts = [ { source = "/srv/www", target = "/var/www", readonly = true }, { source = "/srv/doc2", target = "/doc" } ]
[jail.web.users]
bob = { uid = 1001, gid = 1002, name = "robert", shell = "/bin/zsh", home = "/home/r" }
alice = {}

[jail.centos]
rootfs = "/srv/centos"
users = ["centos"]
userns = false
container_root = true

[jail.plain]
rootfs = "/srv/plain"
users = ["carol"]
timezone = "rootfs"
`)
	require.Empty(t, errs)
	assert.Empty(t, reg.Warnings)
	assert.Equal(t, []jail.Spec{
		{
			Name: "centos", Source: jail.Source{Path: "/srv/centos"}, Hostname: "centos", IdleTimeout: time.Hour, ContainerRoot: true,
			X11: true, OnDisconnect: jail.DisconnectHup,
			Env: []string{"A=default", "B=b"},
			Mounts: []jail.Mount{
				{Source: "/srv/shared", Target: "/shared"},
				{Source: "/srv/doc", Target: "/doc"},
			},
			Limits:    jail.Limits{MemoryBytes: 512 << 20, Pids: 7},
			Logins:    []jail.Login{{Name: "centos", HostUID: 1500, UID: 1500}},
			EnvAccept: []string{"EDITOR", "GIT_*"}, OwnResolver: true, Timezone: "Europe/Paris", Record: true, RecordInput: true, Commands: jail.CommandsFull,
		},
		{
			Name: "web", Source: jail.Source{Path: "/srv/web"}, Hostname: "web.example", IdleTimeout: 90 * time.Second, Autostart: true,
			Userns: jail.Userns{Enabled: true, Base: 200000, Size: 65536}, OnDisconnect: jail.DisconnectKeep,
			Env: []string{"A=jail", "B=b"},
			Mounts: []jail.Mount{
				{Source: "/srv/shared", Target: "/shared"},
				{Source: "/srv/www", Target: "/var/www", ReadOnly: true},
				{Source: "/srv/doc2", Target: "/doc"},
			},
			Limits: jail.Limits{MemoryBytes: 1 << 30, CPUPercent: 150, Pids: 7},
			Logins: []jail.Login{
				{Name: "alice", HostUID: 1501, UID: 2000, GID: 2001, HasGID: true},
				{Name: "bob", HostUID: 1502, UID: 1001, GID: 1002, HasGID: true, JailName: "robert", Shell: "/bin/zsh", Home: "/home/r"},
			},
			EnvAccept: []string{"APP_*", "EDITOR", "GIT_*"}, RecordInput: true,
		},
	}, []jail.Spec{*reg.Jail("centos"), *reg.Jail("web")})
	assert.Equal(t, jail.OwnTimezone, reg.Jail("plain").Timezone)
}

func TestFaultIsReportedWithItsLineAndKey(t *testing.T) {
	const main, dropin = "/etc/jail/jail.toml", "/etc/jail/jail.d/a.toml"
	// A row's text is added to a valid jail as its lines 5 and on, or is the
	// whole file if it has a version.
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"misspelt key":                       {`hostnam = "x"`, []string{main + `:5: jail.web.hostnam: unknown key "hostnam", did you mean "hostname"?`}},
		"misspelt key of a mount":            {`mounts = [ { source = "/a", target = "/b", readonyl = true } ]`, []string{`:5: jail.web.mounts[0].readonyl: unknown key "readonyl", did you mean "readonly"?`}},
		"key without a likeness":             {`zoo = true`, []string{`:5: jail.web.zoo: unknown key "zoo", remove it; known here: acknowledge, autostart, `}},
		"unknown top-level key":              {"version = 1\njails = 1", []string{`:2: jails: unknown key "jails", did you mean "jail"?`}},
		"sftp that is true":                  {"sftp = true", []string{`:5: jail.web.sftp: is true or false, must be a string in quotes`}},
		"keys that are nowhere":              {`keys = "host"`, []string{`:5: jail.web.keys: "host" is not a place for keys, write "inside" or "anywhere"`}},
		"sftp that is no choice":             {`sftp = "yes"`, []string{`:5: jail.web.sftp: "yes" is not a choice, write "auto", "builtin", "rootfs" or "off"`}},
		"rootfs in defaults":                 {"version = 1\n[defaults]\nrootfs = \"/x\"", []string{`:3: defaults.rootfs: unknown key "rootfs", remove it`}},
		"syntax error":                       {"version = 1\n[jail.web\n", []string{":2: not valid TOML: "}},
		"duplicate key":                      {"rootfs = \"/srv/b\"", []string{":5: not valid TOML: "}},
		"missing version":                    {"# nothing\n", []string{":1: version: is missing, add version = 1"}},
		"other version":                      {"\nversion = 2\n", []string{":2: version: is 2, must be 1"}},
		"version as a string":                {`version = "1"`, []string{":1: version: is a string, must be a number"}},
		"missing rootfs and users":           {"version = 1\n[jail.web]", []string{":2: jail.web.rootfs: is missing", ":2: jail.web.users: is missing"}},
		"wrong type of rootfs, said once":    {"version = 1\n[jail.web]\nrootfs = 1\nusers = [\"bob\"]", []string{":3: jail.web.rootfs: is a whole number, must be a string"}},
		"wrong type of every other key":      {"hostname = 1\nautostart = \"yes\"\nidle_timeout = 15\nuid = 1.5\ngid = true\nuserns = 1979-05-27\nenv = [1]\nmounts = 1\nlimits = 1", []string{":5: ", ":6: ", ":7: ", ":8: ", ":9: ", ":10: jail.web.userns: is a date", ":11: ", ":12: ", ":13: "}},
		"jail is not a table":                {"version = 1\njail = 1", []string{":2: jail: is a whole number"}},
		"one jail is not a table":            {"version = 1\njail.web = 1", []string{":2: jail.web: is a whole number", ":2: jail.web.rootfs", ":2: jail.web.users"}},
		"array of jails":                     {"version = 1\n[[jail]]\nname = \"x\"", []string{":2: jail: is an array"}},
		"relative rootfs":                    {"version = 1\n[jail.web]\nrootfs = \"srv/web\"\nusers = [\"bob\"]", []string{":3: jail.web.rootfs: \"srv/web\" is relative"}},
		"unclean rootfs":                     {"version = 1\n[jail.web]\nrootfs = \"/srv/../etc/\"\nusers = [\"bob\"]", []string{":3: jail.web.rootfs: \"/srv/../etc/\" is not clean, write \"/etc\""}},
		"rootfs with a newline":              {"version = 1\n[jail.web]\nrootfs = \"/srv/a\\nb\"\nusers = [\"bob\"]", []string{`:3: jail.web.rootfs: "/srv/a\nb" has a control character`}},
		"rootfs /":                           {"version = 1\n[jail.web]\nrootfs = \"/\"\nusers = [\"bob\"]", []string{":3: jail.web.rootfs: / is a directory of the host"}},
		"rootfs below /etc":                  {"version = 1\n[jail.web]\nrootfs = \"/etc/x\"\nusers = [\"bob\"]", []string{":3: jail.web.rootfs: /etc/x is a directory of the host"}},
		"rootfs that holds the sockets":      {"version = 1\n[jail.web]\nrootfs = \"/run/jail/x\"\nusers = [\"bob\"]", []string{":3: jail.web.rootfs: /run/jail/x lies inside the control sockets"}},
		"invalid jail name":                  {"version = 1\n[jail.\"../x\"]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]", []string{`:2: jail."../x": the name "../x" cannot be used`}},
		"invalid login names":                {"version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\n\"-oProxy\",\n\"Bob\",\n\"a/b\",\n\"\",\n\"\\u0430lice\"]", []string{":5: ", ":6: ", ":7: ", ":8: ", `:9: jail.x.users: login "\u0430lice" cannot be used`}},
		"no users":                           {"version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = []", []string{":4: jail.x.users: is empty"}},
		"login twice in one jail":            {"version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\",\n\"bob\"]", []string{`:5: jail.x.users: login "bob" is listed twice`}},
		"login in two jails":                 {"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"alice\"]", []string{`:7: jail.x.users: login "alice" is already in jail "web" (` + main + `:2)`}},
		"two logins of one host uid":         {"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"twin1\", \"twin2\"]", []string{`login "twin1" shares uid 1600 with the account "twin2"`, `login "twin2" has the same host uid 1600`, `login "twin2" shares uid 1600`}},
		"login the host does not know":       {"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"ghost\"]", []string{`:7: jail.x.users: login "ghost" is not in the host's passwd`}},
		"login that is root":                 {"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"root\"]", []string{`login "root" is root`}},
		"login that is a system account":     {"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"daemon\", \"nobody\", \"wrap\"]", []string{`login "daemon" is a system account`, `login "nobody" is a`, `login "wrap" is a`}},
		"login that may become root":         {"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"admin\", \"docky\"]", []string{`login "admin" is in the host's group sudo`, `login "docky" is in the host's group docker`}},
		"jail defined twice":                 {"[jail.web.limits]\n[jail.web.limits]", []string{":6: not valid TOML"}},
		"uid inside is 0":                    {"uid = 0", []string{":5: jail.web.uid: 0 is root"}},
		"uid inside is -1":                   {"uid = -1", []string{":5: jail.web.uid: -1 is not an id"}},
		"uid inside is 4294967295":           {"uid = 4294967295", []string{":5: jail.web.uid: 4294967295 means"}},
		"uid inside is 65535":                {"uid = 65535", []string{":5: jail.web.uid: 65535 means"}},
		"uid inside wraps to 0":              {"uid = 4294967296", []string{":5: jail.web.uid: 4294967296 is not an id"}},
		"uid beyond 64 bits":                 {"uid = 18446744073709551616", []string{":5: "}},
		"gid inside is 0":                    {"gid = 0", []string{":5: jail.web.gid: 0 is root"}},
		"uid outside the id map":             {"uid = 70000", []string{`:5: jail.web.uid: uid 70000 of login "alice" is outside the jail's id map of 65536 ids`}},
		"host uid outside the id map":        {"[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"high\"]", []string{`:7: jail.x.users: uid 90000 of login "high" is outside`}},
		"user entry's own faults":            {"version = 1\n[jail.x]\nrootfs = \"/srv/x\"\n[jail.x.users.bob]\nuid = 0\nname = \"a:b\"\nshell = \"zsh\"\nhome = \"/a/\"\nnme = 1", []string{":5: jail.x.users.bob.uid", ":6: jail.x.users.bob.name", ":7: jail.x.users.bob.shell", ":8: jail.x.users.bob.home", `:9: jail.x.users.bob.nme: unknown key "nme", did you mean "name"?`}},
		"root mode: another account's uid":   {"userns = false\nuid = 1502", []string{`:6: jail.web.uid: with userns = false uid 1502 is the host's account "bob"`}},
		"root mode: a privileged group":      {"userns = false\ngid = 995", []string{`:6: jail.web.gid: with userns = false gid 995 is the host's group docker`}},
		"hostname with an underscore":        {`hostname = "a_b"`, []string{":5: jail.web.hostname: "}},
		"hostname of 65 characters":          {`hostname = "` + strings.Repeat("a.", 32) + `a"`, []string{":5: jail.web.hostname: "}},
		"hostname with a newline":            {`hostname = "a\nb"`, []string{`:5: jail.web.hostname: "a\nb" is not`}},
		"userns true":                        {`userns = true`, []string{":5: jail.web.userns: cannot be true"}},
		"userns of unknown mode":             {`userns = "host"`, []string{`:5: jail.web.userns: "host" is not a mode`}},
		"userns base 0":                      {`userns = { base = 0, size = 65536 }`, []string{":5: jail.web.userns.base: 0 would map"}},
		"userns without size":                {`userns = { base = 200000 }`, []string{":5: jail.web.userns.size: is missing"}},
		"userns beyond the last id":          {`userns = { base = 4294901760, size = 65536 }`, []string{":5: jail.web.userns.size: goes beyond"}},
		"userns size 0":                      {`userns = { base = 200000, size = 0 }`, []string{":5: jail.web.userns.size: 0 is not"}},
		"userns too small for its user":      {`userns = { base = 200000, size = 1000 }`, []string{`:4: jail.web.users: uid 1501 of login "alice" is outside`}},
		"userns on nobody":                   {`userns = { base = 10000, size = 65536 }`, []string{":5: jail.web.userns.base: contains 65534"}},
		"userns on a host account":           {`userns = { base = 80000, size = 65536 }`, []string{":5: jail.web.userns: contains 90000, which is an account"}},
		"userns on /etc/subuid":              {`userns = { base = 365535, size = 65536 }`, []string{":5: jail.web.userns: overlaps 300000 to 365535, which /etc/subuid gives to carol"}},
		"userns on another jail's":           {"userns = { base = 200000, size = 65536 }\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]\nuserns = { base = 134465, size = 65536 }", []string{`:9: jail.x.userns: overlaps the host ids of jail "web" (` + main + ":2)"}},
		"userns on a root-mode jail's uid":   {"userns = { base = 200000, size = 65536 }\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]\nuserns = false\nuid = 200001", []string{`:5: jail.web.userns: overlaps the host ids of jail "x"`}},
		"one range for all jails":            {"version = 1\n[defaults]\nuserns = { base = 200000, size = 65536 }", []string{":3: defaults.userns: cannot be one range"}},
		"idle_timeout without a unit":        {`idle_timeout = "15"`, []string{":5: jail.web.idle_timeout: "}},
		"negative idle_timeout":              {`idle_timeout = "-1m"`, []string{":5: jail.web.idle_timeout: "}},
		"memory without sense":               {`limits = { memory = "1Q" }`, []string{":5: jail.web.limits.memory: "}},
		"memory beyond 63 bits":              {`limits = { memory = "9999999999T" }`, []string{":5: jail.web.limits.memory: "}},
		"disk without sense":                 {`limits = { disk = "much" }`, []string{`:5: jail.web.limits.disk: "much" is not a size`}},
		"disk of nothing":                    {`limits = { disk = "100K" }`, []string{`:5: jail.web.limits.disk: "100K" is too little`}},
		"files of nothing":                   {`limits = { files = 0 }`, []string{":5: jail.web.limits.files: 0 is not a number of files"}},
		"disk where ids are the host's":      {"limits = { disk = \"1G\" }\nuserns = false", []string{":5: jail.web.limits.disk: cannot be kept with userns = false"}},
		"files where ids are the host's":     {"limits = { files = 10 }\nuserns = false", []string{":5: jail.web.limits.files: cannot be kept with userns = false"}},
		"memory of nothing":                  {`limits = { memory = "0" }`, []string{":5: jail.web.limits.memory: "}},
		"cpu without %":                      {`limits = { cpu = "2" }`, []string{":5: jail.web.limits.cpu: "}},
		"io_weight 0":                        {`limits = { io_weight = 0 }`, []string{":5: jail.web.limits.io_weight: "}},
		"pids -1":                            {`limits = { pids = -1 }`, []string{":5: jail.web.limits.pids: "}},
		"on_disconnect of unknown kind":      {`on_disconnect = "HUP"`, []string{`:5: jail.web.on_disconnect: "HUP" is not known, write "hup", "kill" or "keep"`}},
		"x11 as a string":                    {`x11 = "yes"`, []string{":5: jail.web.x11: is a string, must be true or false"}},
		"limit outside limits":               {`memory = "1G"`, []string{`:5: jail.web.memory: unknown key "memory"`}},
		"env names":                          {"[jail.web.env]\n\"A-B\" = \"\"\n1A = \"\"\n\"\" = \"\"\nLD_PRELOAD = \"\"\nHOME = \"\"\n\"A=B\" = \"\"", []string{`:6: jail.web.env.A-B: `, ":7: ", ":8: ", ":9: jail.web.env.LD_PRELOAD: ", ":10: jail.web.env.HOME: ", ":11: "}},
		"env_accept names":                   {"env_accept = [\n\"A-B\",\n\"*\",\n\"\",\n\"A[B]\",\n\"1A\",\n\"A=B\",\n1,\n]", []string{`:6: jail.web.env_accept: "A-B" is not a variable's name`, ":7: ", ":8: ", ":9: ", ":10: ", ":11: ", ":12: jail.web.env_accept: is a whole number"}},
		"env_accept of the jail's own":       {"env_accept = [\n\"HOME\",\n\"SSH_AUTH_SOCK\",\n\"S*\",\n\"LD_*\",\n\"BASH_ENV\",\n\"PA*\",\n]", []string{`:6: jail.web.env_accept: HOME is set by the jail`, ":7: ", ":8: jail.web.env_accept: S* stands for names", ":9: ", ":10: ", ":11: "}},
		"env_accept as a string":             {`env_accept = "FOO"`, []string{":5: jail.web.env_accept: is a string, must be an array of names"}},
		"resolv_conf of somebody else":       {`resolv_conf = "/etc/other"`, []string{`:5: jail.web.resolv_conf: "/etc/other" is not whose`}},
		"metrics that node_exporter skips":   {"version = 1\n[host]\nmetrics = \"/var/lib/x/jail.txt\"", []string{`:3: host.metrics: "/var/lib/x/jail.txt" does not end in .prom`}},
		"metrics at a relative path":         {"version = 1\n[host]\nmetrics = \"jail.prom\"", []string{`:3: host.metrics: "jail.prom" is relative`}},
		"record of something else":           {`record = "all"`, []string{`:5: jail.web.record: "all" is nothing that can be recorded, write "tty" or "off"`}},
		"log_commands of another word":       {`log_commands = "all"`, []string{`:5: jail.web.log_commands: "all" is no part of a command, write "none", "name" or "full"`}},
		"record_input as a string":           {`record_input = "yes"`, []string{":5: jail.web.record_input: is a string, must be true or false"}},
		"timezone that is a path":            {`timezone = "../../etc/passwd"`, []string{`:5: jail.web.timezone: "../../etc/passwd" is not a time zone`}},
		"timezone of a wrong type":           {`timezone = 1`, []string{":5: jail.web.timezone: is a whole number"}},
		"NUL in env":                         {`env = { A = "a\u0000b" }`, []string{":5: jail.web.env.A: has a NUL"}},
		"number in env":                      {`env = { A = 1 }`, []string{":5: jail.web.env.A: is a whole number"}},
		"mount without source or target":     {"mounts = [\n{},\n]", []string{":6: jail.web.mounts[0].source: is missing", ":6: jail.web.mounts[0].target: is missing"}},
		"mount targets":                      {"mounts = [\n{source=\"/a\", target=\"/\"},\n{source=\"/a\", target=\"b\"},\n{source=\"/a\", target=\"/proc/x\"},\n{source=\"/a\", target=\"/dev\"},\n{source=\"/a\", target=\"/sys/fs\"},\n{source=\"/a\", target=\"/a/../b\"},\n]", []string{":6: ", ":7: ", ":8: ", ":9: ", ":10: ", ":11: "}},
		"mount sources of the host":          {"mounts = [\n{source=\"/\", target=\"/1\"},\n{source=\"/run\", target=\"/2\"},\n{source=\"/proc/1\", target=\"/3\"},\n{source=\"/dev\", target=\"/4\"},\n{source=\"/sys\", target=\"/5\"},\n{source=\"/run/jail\", target=\"/6\"},\n{source=\"/run/jail/1000/sock\", target=\"/7\"},\n]", []string{":6: ", ":7: ", ":8: ", ":9: ", ":10: ", ":11: jail.web.mounts[5].source: /run/jail is the control sockets", ":12: "}},
		"writable mount of the registry":     {`mounts = [ { source = "/etc/jail/jail.d", target = "/x" } ]`, []string{":5: jail.web.mounts[0].source: /etc/jail/jail.d shows this registry"}},
		"mount of another jail's rootfs":     {"mounts = [ { source = \"/srv/x/home\", target = \"/x\" } ]\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]", []string{`:5: jail.web.mounts[0].source: /srv/x/home lies inside the rootfs of jail "x"`}},
		"mount of a directory with a rootfs": {`mounts = [ { source = "/srv", target = "/x" } ]`, []string{`:5: jail.web.mounts[0].source: /srv contains the rootfs of jail "web"`}},
		"one mount too many":                 {manyMounts(129), []string{`:133: jail.web.mounts[128].target: is one mount more than the 128`}},
		"mount target twice":                 {`mounts = [ { source = "/a", target = "/x" }, { source = "/b", target = "/x" } ]`, []string{`:5: jail.web.mounts[1].target: /x is mounted twice`}},
		"mount that hides another":           {`mounts = [ { source = "/a", target = "/x/y" }, { source = "/b", target = "/x" } ]`, []string{`:5: jail.web.mounts[1].target: /x would hide the mount on /x/y`}},
		"one rootfs for two jails":           {"[jail.x]\nrootfs = \"/srv/web\"\nusers = [\"bob\"]", []string{`:6: jail.x.rootfs: /srv/web is the rootfs of jail "web"`}},
		"rootfs inside another":              {"[jail.x]\nrootfs = \"/srv/web/a/b\"\nusers = [\"bob\"]", []string{`:6: jail.x.rootfs: /srv/web/a/b lies inside the rootfs of jail "web"`}},
		"rootfs around another":              {"version = 1\n[jail.a]\nrootfs = \"/srv/j/a\"\nusers = [\"bob\"]\n[jail.b]\nrootfs = \"/srv/j\"\nusers = [\"alice\"]", []string{`:6: jail.b.rootfs: /srv/j contains the rootfs of jail "a"`}},
		"fault of defaults, said once":       {"version = 1\n[defaults]\nhostname = \"-\"\n[jail.a]\nrootfs = \"/srv/a\"\nusers = [\"bob\"]\n[jail.b]\nrootfs = \"/srv/b\"\nusers = [\"alice\"]", []string{`:3: defaults.hostname: "-" is not`}},
	} {
		t.Run(name, func(t *testing.T) {
			text := tt.text
			if !strings.Contains(text, "version") && name != "missing version" {
				text = jailText(text)
			}
			_, errs := load(t, testOptions(), text)
			if assert.Len(t, errs, len(tt.want), "%v", errs) {
				for i, want := range tt.want {
					assert.Contains(t, errs[i].Error(), want)
				}
			}
		})
	}

	t.Run("jail in two files", func(t *testing.T) {
		_, errs := load(t, testOptions(), jailText(""), "version = 1\n[jail.web]\nrootfs = \"/srv/x\"\nusers = [\"bob\"]")
		require.Len(t, errs, 1)
		assert.Equal(t, dropin+`:2: jail.web: jail "web" is already defined at `+main+`:2, remove one`, errs.Error())
	})
	t.Run("login in two files", func(t *testing.T) {
		_, errs := load(t, testOptions(), jailText(""), "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"alice\"]")
		require.Len(t, errs, 1)
		assert.Contains(t, errs.Error(), dropin+`:4: jail.x.users: login "alice" is already in jail "web" (`+main+":2)")
	})
	t.Run("defaults in a drop-in", func(t *testing.T) {
		_, errs := load(t, testOptions(), jailText(""), "version = 1\n[defaults]\nautostart = true")
		require.Len(t, errs, 1)
		assert.Contains(t, errs.Error(), dropin+":2: defaults: belongs in the main file")
	})
	t.Run("faults of all files are reported, in order", func(t *testing.T) {
		_, errs := load(t, testOptions(), jailText("a = 1\nb = 2"), "[", "version = 3")
		require.Len(t, errs, 4)
		assert.Equal(t, []string{dropin, "/etc/jail/jail.d/b.toml", main, main}, []string{errs[0].File, errs[1].File, errs[2].File, errs[3].File})
		assert.Equal(t, 4, strings.Count(errs.Error(), "\n")+1)
	})
}

func TestWarnings(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"container_root in a user namespace": {"container_root = true", ":5: jail.web.container_root: has no meaning"},
		"id map without nobody":              {"userns = { base = 200000, size = 60000 }", ":5: jail.web.userns.size: 60000 ids leave out nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			reg, errs := load(t, testOptions(), jailText(tt.text))
			require.Empty(t, errs)
			require.Len(t, reg.Warnings, 1)
			assert.Contains(t, reg.Warnings[0].Error(), tt.want)
		})
	}
}

func TestLookupsAreExact(t *testing.T) {
	reg, errs := load(t, testOptions(), jailText(""))
	require.Empty(t, errs)
	assert.Equal(t, "web", reg.Jail("web").Name)
	assert.Nil(t, reg.Jail("we"))
	j, l := reg.Login("alice")
	require.NotNil(t, j)
	assert.Equal(t, jail.HostUID(1501), l.HostUID)
	j, l = reg.Login("ALICE")
	assert.Nil(t, j)
	assert.Nil(t, l)
	_, l = reg.HostUID(1501)
	require.NotNil(t, l)
	assert.Equal(t, "alice", l.Name)
	_, l = reg.HostUID(0)
	assert.Nil(t, l)
}

func TestAutoRange(t *testing.T) {
	const three = `version = 1
[jail.a]
rootfs = "/srv/a"
users = ["alice"]
[jail.b]
rootfs = "/srv/b"
users = ["bob"]
[jail.c]
rootfs = "/srv/c"
users = ["carol"]
`
	base := func(opt Options, text, name string) uint32 {
		reg, errs := load(t, opt, text)
		require.Empty(t, errs)
		u := reg.Jail(name).Userns
		assert.True(t, u.Enabled)
		assert.Equal(t, uint32(slotSize), u.Size)
		assert.GreaterOrEqual(t, u.Base, uint32(0x70000000))
		assert.LessOrEqual(t, u.Base, uint32(0x7FFB0000-slotSize))
		return u.Base
	}
	a := base(testOptions(), three, "a")

	t.Run("is the same every time", func(t *testing.T) {
		assert.Equal(t, a, base(testOptions(), three, "a"))
	})
	t.Run("differs between jails", func(t *testing.T) {
		assert.NotEqual(t, a, base(testOptions(), three, "b"))
	})
	t.Run("does not depend on jails it does not collide with", func(t *testing.T) {
		alone := "version = 1\n[jail.a]\nrootfs = \"/srv/a\"\nusers = [\"alice\"]"
		assert.Equal(t, a, base(testOptions(), alone, "a"))
	})
	t.Run("avoids subordinate ids of the host", func(t *testing.T) {
		opt := testOptions()
		opt.SubGID = []byte("carol:" + uintString(a+100) + ":1\n")
		assert.Equal(t, a+slotSize, base(opt, three, "a"))
	})
	t.Run("avoids accounts of the host", func(t *testing.T) {
		opt := testOptions()
		opt.Group = append([]byte("x:x:"+uintString(a+65535)+":\n"), opt.Group...)
		assert.Equal(t, a+slotSize, base(opt, three, "a"))
	})
	t.Run("avoids another jail's explicit range", func(t *testing.T) {
		text := three + "userns = { base = " + uintString(a) + ", size = 65536 }"
		assert.Equal(t, a+slotSize, base(testOptions(), text, "a"))
	})
	t.Run("colliding names are served in name order", func(t *testing.T) {
		first := map[uint32]string{}
		for i := 0; ; i++ {
			name := "j" + uintString(uint32(i))
			other, ok := first[preferredSlot(0, name)]
			if !ok {
				first[preferredSlot(0, name)] = name
				continue
			}
			lo, hi := min(other, name), max(other, name)
			text := "version = 1\n[jail." + hi + "]\nrootfs = \"/srv/hi\"\nusers = [\"bob\"]\n[jail." + lo + "]\nrootfs = \"/srv/lo\"\nusers = [\"alice\"]"
			assert.Equal(t, uint32(slot(0, preferredSlot(0, lo)).base), base(testOptions(), text, lo))
			assert.Equal(t, uint32(slot(0, (preferredSlot(0, hi)+1)%4091).base), base(testOptions(), text, hi))
			return
		}
	})
	t.Run("of a jail without a registry lies in the pool", func(t *testing.T) {
		none := &Registry{}
		u := AutoRangeFor("a", none)
		assert.True(t, u.Enabled)
		assert.GreaterOrEqual(t, u.Base, uint32(0x70000000))
		assert.Equal(t, u, AutoRangeFor("a", none))
		next := AutoRangeFor("a", &Registry{Jails: []jail.Spec{{Name: "b", Userns: u}}})
		assert.Equal(t, uint32(slot(0, (preferredSlot(0, "a")+1)%4091).base), next.Base, "not that of a jail of the registry")
	})
	t.Run("in a full pool is an error", func(t *testing.T) {
		opt := testOptions()
		opt.SubUID = []byte("x:1073741824:" + uintString(0x7FFB0000-0x40000000))
		_, errs := load(t, opt, jailText(""))
		require.Len(t, errs, 1)
		assert.Contains(t, errs.Error(), `:2: jail.web.userns: "auto" found no free range`)
	})
}

func TestRootless(t *testing.T) {
	rootless := func(uid uint32) Options {
		opt := testOptions()
		opt.Rootless, opt.euid = true, &uid
		return opt
	}
	t.Run("auto is the caller's own id", func(t *testing.T) {
		reg, errs := load(t, rootless(1501), jailText(""))
		require.Empty(t, errs)
		assert.Equal(t, jail.Userns{Enabled: true, Base: 1501, Size: 1}, reg.Jails[0].Userns)
	})
	t.Run("an administrator may jail themselves", func(t *testing.T) {
		_, errs := load(t, rootless(1700), "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"admin\"]")
		require.Empty(t, errs)
	})
	t.Run("a range is one of the caller's subordinate ranges", func(t *testing.T) {
		opt := rootless(1503)
		opt.SubGID = opt.SubUID
		text := "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"carol\"]\nuserns = { base = 300000, size = 65536 }"
		reg, errs := load(t, opt, text)
		require.Empty(t, errs)
		assert.Equal(t, uint32(300000), reg.Jails[0].Userns.Base)

		_, errs = load(t, opt, strings.Replace(text, "300000", "300001", 1))
		require.Len(t, errs, 2)
		assert.Contains(t, errs[0].Error(), "is not yours, choose a range that /etc/subuid gives to carol")
	})
	t.Run("host id 0 is never mapped", func(t *testing.T) {
		reg, errs := load(t, rootless(0), jailText(""))
		require.Empty(t, errs)
		assert.GreaterOrEqual(t, reg.Jails[0].Userns.Base, uint32(0x70000000))
	})
	t.Run("root is no login of another caller", func(t *testing.T) {
		_, errs := load(t, rootless(1501), "version = 1\n[jail.x]\nrootfs = \"/srv/x\"\nusers = [\"root\"]")
		require.NotEmpty(t, errs)
	})
}

func TestKeys(t *testing.T) {
	for text, want := range map[string]wire.Keys{
		jailText(""):                                                   wire.KeysInside,
		jailText(`keys = "inside"`):                                    wire.KeysInside,
		jailText(`keys = "anywhere"`):                                  wire.KeysAnywhere,
		jailText("[defaults]\nkeys = \"anywhere\""):                    wire.KeysAnywhere,
		jailText("keys = \"inside\"\n[defaults]\nkeys = \"anywhere\""): wire.KeysInside,
	} {
		reg, errs := load(t, testOptions(), text)
		require.Empty(t, errs, "%s", text)
		assert.Equal(t, want, reg.Jails[0].Keys, "%s", text)
	}
}

func TestSFTP(t *testing.T) {
	for text, want := range map[string]wire.SFTP{
		jailText(""):                                            wire.SFTPAuto,
		jailText(`sftp = "auto"`):                               wire.SFTPAuto,
		jailText(`sftp = "builtin"`):                            wire.SFTPBuiltin,
		jailText(`sftp = "rootfs"`):                             wire.SFTPRootfs,
		jailText(`sftp = "off"`):                                wire.SFTPOff,
		jailText("[defaults]\nsftp = \"off\""):                  wire.SFTPOff,
		jailText("sftp = \"auto\"\n[defaults]\nsftp = \"off\""): wire.SFTPAuto,
	} {
		reg, errs := load(t, testOptions(), text)
		require.Empty(t, errs, "%s", text)
		assert.Equal(t, want, reg.Jails[0].SFTP, "%s", text)
	}
}

// Embedded, so that a mutation of it is seen (e2e/bite).
//
//go:embed examples/jail.toml
var exampleRegistry string

func TestExampleLoads(t *testing.T) {
	reg, errs := load(t, testOptions(), exampleRegistry)
	require.Empty(t, errs)
	assert.Empty(t, reg.Warnings)
	assert.Len(t, reg.Jails, 3)
	_, bob := reg.Login("bob")
	assert.Equal(t, "webmaster", bob.JailName)
	for _, j := range reg.Jails {
		// People begin with what is there: a key's command= that runs git is to hold.
		assert.False(t, environ.Enters([]byte("GIT_CONFIG_COUNT=1"), j.EnvAccept), "%s: %v", j.Name, j.EnvAccept)
	}
}

// What a package installs as the registry is in force, and has no jail.
func TestPackagedRegistryLoads(t *testing.T) {
	text, err := os.ReadFile("../packaging/jail.toml")
	require.NoError(t, err)
	reg, errs := load(t, testOptions(), string(text))
	require.Empty(t, errs)
	assert.Empty(t, reg.Warnings)
	assert.Empty(t, reg.Jails)
}

// FuzzParse feeds arbitrary text through everything but the file system.
func FuzzParse(f *testing.F) {
	example, err := os.ReadFile(filepath.Join("examples", "jail.toml"))
	require.NoError(f, err)
	f.Add(example)
	f.Add([]byte(jailText("userns = false\nuid = -1\n'a b'.\"c\\u0064\" = [[1,\n{x=2}]]")))
	f.Add([]byte("version = 1\n[[jail.a.mounts]]\nsource='/a'\n[[jail.a.mounts]]\ntarget=\"\"\"\n/b\"\"\""))
	f.Add([]byte("\xEF\xBB\xBFversion=1#x\r\n[defaults.limits]\r\npids=1_000"))
	f.Add([]byte("a = \"\\\x00")) // the TOML library quotes the byte in its message
	f.Fuzz(func(t *testing.T, text []byte) {
		reg, errs := load(t, testOptions(), string(text))
		lines := strings.Count(string(text), "\n") + 1
		for _, e := range append(append(Errors{}, errs...), reg.Warnings...) {
			if e.Line < 1 || e.Line > lines || e.Msg == "" || strings.ContainsAny(e.Error(), "\n\x00\x1b") {
				t.Fatalf("bad error %#v in %d lines", e, lines)
			}
		}
		for _, j := range reg.Jails {
			if !jail.ValidName(j.Name) || !isClean(j.Source.Path) || j.Source.Path == "/" || len(j.Logins) == 0 ||
				j.Userns.Enabled && (j.Userns.Base < 1000 || j.Userns.Size == 0) {
				t.Fatalf("invalid spec %+v", j)
			}
			for _, l := range j.Logins {
				if !jail.ValidID(uint32(l.UID)) || l.HasGID && !jail.ValidID(uint32(l.GID)) || l.HostUID < minHostUID ||
					j.Userns.Enabled && uint32(l.UID) >= j.Userns.Size {
					t.Fatalf("invalid login %+v", l)
				}
			}
		}
	})
}

// manyMounts is a list of mounts, one to a line.
func manyMounts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{source=\"/a\", target=\"/t%d\"},\n", i)
	}
	return "mounts = [" + b.String() + "]"
}

func TestManyMounts(t *testing.T) {
	reg, errs := load(t, testOptions(), "version = 1\n[jail.web]\nrootfs = \"/srv/web\"\nusers = [\"alice\"]\n"+manyMounts(128))
	require.Empty(t, errs)
	assert.Len(t, reg.Jails[0].Mounts, 128)
}
