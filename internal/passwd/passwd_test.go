package passwd

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLookup(t *testing.T) {
	alice := Entry{Name: "alice", UID: 1000, GID: 1000, Home: "/home/alice", Shell: "/bin/bash"}
	const line = "alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash\n"
	for name, tt := range map[string]struct {
		text  string
		found bool
		want  Entry
	}{
		"plain line":                            {line, true, alice},
		"last line without a newline":           {"root:x:0:0::/root:/bin/sh\n" + strings.TrimSuffix(line, "\n"), true, alice},
		"first of two lines wins":               {line + "alice:x:1000:1::/evil:/evil\n", true, alice},
		"a broken line does not win":            {"alice:x:1000:1:/evil:/evil\n" + line, true, alice},
		"control bytes in the comment are fine": {strings.Replace(line, "Alice", "A\x01e", 1), true, alice},
		"leading zeros are decimal":             {strings.ReplaceAll(line, "1000", "0001000"), true, alice},
		"empty shell stays empty":               {"alice:x:1000:1000:::\n", true, Entry{Name: "alice", UID: 1000, GID: 1000}},
		"largest id":                            {line + "max:x:4294967294:1:::\n", true, alice},
		"line of exactly 64 KiB":                {"alice:x:1000:1000:" + strings.Repeat("x", MaxLine-len(line)+len("Alice,,,")+1) + ":/home/alice:/bin/bash\n", true, alice},

		"empty text":                    {"", false, Entry{}},
		"only newlines":                 {"\n\n\n", false, Entry{}},
		"empty name":                    {":x:1000:1000:::\n", false, Entry{}},
		"too few fields":                {"alice:x:1000:1000:\n", false, Entry{}},
		"too many fields":               {"alice:x:1000:1000::::\n", false, Entry{}},
		"comment":                       {"#" + line, false, Entry{}},
		"NIS plus":                      {"+" + line, false, Entry{}},
		"NIS minus":                     {"-" + line, false, Entry{}},
		"negative uid":                  {"alice:x:-1000:1000:::\n", false, Entry{}},
		"signed uid":                    {"alice:x:+1000:1000:::\n", false, Entry{}},
		"hexadecimal uid":               {"alice:x:0x3e8:1000:::\n", false, Entry{}},
		"uid with a blank":              {"alice:x: 1000:1000:::\n", false, Entry{}},
		"empty gid":                     {"alice:x:1000::::\n", false, Entry{}},
		"uid that wraps to 1000":        {"alice:x:4294968296:1000:::\n", false, Entry{}},
		"uid that wraps 64 bits":        {"alice:x:18446744073709552616:1000:::\n", false, Entry{}},
		"gid that is \"no change\"":     {"alice:x:1000:4294967295:::\n", false, Entry{}},
		"gid that is 16-bit no change":  {"alice:x:1000:65535:::\n", false, Entry{}},
		"NUL in the name":               {"ali\x00ce:x:1000:1000:::\n", false, Entry{}},
		"escape sequence in the home":   {"alice:x:1000:1000::/\x1b[2J:\n", false, Entry{}},
		"carriage return in the shell":  {"alice:x:1000:1000:::/bin/sh\r\n", false, Entry{}},
		"line of 64 KiB and a byte":     {"alice:x:1000:1000:" + strings.Repeat("x", MaxLine-len("alice:x:1000:1000:::")+1) + "::\n", false, Entry{}},
		"other name, other uid":         {"bob:x:1001:1001:::\n", false, Entry{}},
		"name that begins with alice":   {"alice2:x:1001:1001:::\n", false, Entry{}},
		"uid with the same last digits": {"carol:x:11000:1000:::\n", false, Entry{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := ByUID([]byte(tt.text), 1000)
			assert.Equal(t, tt.found, ok, "ByUID")
			assert.Equal(t, tt.want, got, "ByUID")
			got, ok = Lookup([]byte(tt.text), 1000, "")
			assert.Equal(t, tt.found, ok, "Lookup")
			assert.Equal(t, tt.want, got, "Lookup")
			got, ok = Lookup([]byte(tt.text), 1000, "alice")
			assert.Equal(t, tt.found, ok, "Lookup by name")
			assert.Equal(t, tt.want, got, "Lookup by name")
			got, ok = ByName([]byte(tt.text), "alice")
			assert.Equal(t, tt.found, ok, "ByName")
			assert.Equal(t, tt.want, got, "ByName")
		})
	}

	t.Run("\"no change\" ids are nobody's", func(t *testing.T) {
		text := []byte("a:x:65535:1:::\nb:x:4294967295:1:::\n")
		for _, id := range []uint32{0xFFFF, 0xFFFFFFFF} {
			_, ok := ByUID(text, id)
			assert.False(t, ok)
		}
	})
	t.Run("the empty name is nobody's", func(t *testing.T) {
		_, ok := ByName([]byte(":x:1000:1000:::\n"), "")
		assert.False(t, ok)
	})
	t.Run("root can be looked up", func(t *testing.T) {
		e, ok := ByUID([]byte("root:x:0:0::/root:/bin/sh\n"), 0)
		assert.True(t, ok)
		assert.Equal(t, "root", e.Name)
	})
}

// Several names of a uid, and several uids of a name.
func TestLookupByBoth(t *testing.T) {
	const text = "a:x:1:1::/a1:\nb:x:2:2::/b2:\nb:x:1:3::/b1:\nb:x:1:4::/later:\nc:x:1:bad::/c1:\n"
	for claim, tt := range map[string]struct {
		uid  uint32
		name string
		home string // "" for none
	}{
		"the first without a name":           {1, "", "/a1"},
		"the name's first line of that uid":  {1, "b", "/b1"},
		"the name's line of another uid":     {2, "b", "/b2"},
		"a name that uid does not have":      {2, "a", "/b2"},
		"a name nobody has":                  {1, "nobody", "/a1"},
		"a name whose line is not valid":     {1, "c", "/a1"},
		"a uid nobody has":                   {3, "b", ""},
		"part of a name":                     {1, "bb", "/a1"},
		"no change is no uid, whatever name": {0xFFFFFFFF, "b", ""},
	} {
		e, ok := Lookup([]byte(text), tt.uid, tt.name)
		assert.Equal(t, tt.home != "", ok, claim)
		assert.Equal(t, tt.home, e.Home, claim)
	}
}

func TestGroups(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		dst  []uint32
		zero bool
		max  int
		want []uint32
	}{
		"member of several":            {text: "a:x:1:alice\nb:x:2:bob\nc:x:3:bob,alice\nd:x:4:alice,bob\n", want: []uint32{1, 3, 4}},
		"part of a name is no member":  {text: "a:x:1:alice2\nb:x:2:malice\nc:x:3:ali,ce\n"},
		"blanks are part of a name":    {text: "a:x:1:bob, alice\n"},
		"name of a group is no member": {text: "alice:x:1:\n"},
		"empty members":                {text: "a:x:1:,,alice,\n", want: []uint32{1}},
		"listed twice counts once":     {text: "a:x:1:alice,alice\nb:x:1:alice\n", want: []uint32{1}},
		"what dst has is not repeated": {text: "a:x:1:alice\nb:x:2:alice\n", dst: []uint32{2}, want: []uint32{2, 1}},
		"max bounds the whole":         {text: "a:x:1:alice\nb:x:2:alice\nc:x:3:alice\n", dst: []uint32{9}, max: 2, want: []uint32{9, 1}},
		"dst beyond max is kept":       {text: "a:x:1:alice\n", dst: []uint32{7, 8, 9}, max: 2, want: []uint32{7, 8, 9}},
		"gid 0 is skipped":             {text: "root:x:0:alice\na:x:1:alice\n", want: []uint32{1}},
		"gid 0 where allowed":          {text: "root:x:0:alice\n", zero: true, want: []uint32{0}},
		"\"no change\" is skipped":     {text: "a:x:65535:alice\nb:x:4294967295:alice\n"},
		"overflow is skipped":          {text: "a:x:4294967296:alice\nb:x:-1:alice\nc:x:1x:alice\n"},
		"wrong number of fields":       {text: "a:x:1\nb:x:2:alice:\n"},
		"empty and NIS names":          {text: ":x:1:alice\n+:x:2:alice\n+g:x:3:alice\n-g:x:4:alice\n"},
		"line over 64 KiB":             {text: "a:x:1:alice" + strings.Repeat(",x", MaxLine/2) + "\nb:x:2:alice\n", want: []uint32{2}},
		"no newline at the end":        {text: "a:x:1:alice", want: []uint32{1}},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.max == 0 {
				tt.max = 32
			}
			assert.Equal(t, tt.want, Groups(tt.dst, []byte(tt.text), "alice", tt.zero, tt.max))
		})
	}
	t.Run("the empty name is no member", func(t *testing.T) {
		assert.Empty(t, Groups(nil, []byte("a:x:1:\nb:x:2:,\n"), "", false, 32))
	})
}

func TestScanDoesNotAllocate(t *testing.T) {
	text := []byte(strings.Repeat("stranger:x:5000:5000:Some Body:/home/stranger:/bin/bash\n", 1000))
	groups := []byte(strings.Repeat("g:x:5000:stranger,other\n", 1000) + "a:x:1:alice\n")
	dst := make([]uint32, 0, 4)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		ByUID(text, 1000)
		ByName(text, "alice")
		Lookup(text, 1000, "alice")
		Groups(dst, groups, "alice", false, 4)
	}))
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("alice:x:1000:1000::/home/alice:/bin/sh\n+::::::\n"), uint32(1000), "alice")
	f.Add([]byte(":::::::\n\x00"), uint32(0), "")
	f.Fuzz(func(t *testing.T, text []byte, uid uint32, name string) {
		check := func(e Entry) {
			for _, s := range []string{e.Name, e.Home, e.Shell} {
				if strings.ContainsAny(s, ":\n\x00\x1b\r") || len(s) > MaxLine {
					t.Fatalf("field %q", s)
				}
			}
			if e.Name == "" || e.UID == 0xFFFF || e.UID == 0xFFFFFFFF || e.GID == 0xFFFF || e.GID == 0xFFFFFFFF {
				t.Fatalf("entry %+v", e)
			}
			if again, ok := ByName(text, e.Name); !ok || again.Name != e.Name {
				t.Fatalf("%q is found by id only", e.Name)
			}
			if again, ok := ByUID(text, e.UID); !ok || again.UID != e.UID {
				t.Fatalf("%d is found by name only", e.UID)
			}
		}
		first, found := ByUID(text, uid)
		if e, ok := Lookup(text, uid, name); ok != found {
			t.Fatalf("%d is found by name or without one only", uid)
		} else if ok {
			check(e)
			if e.UID != uid || e.Name != name && e != first {
				t.Fatalf("%+v for %d, %q", e, uid, name)
			}
		}
		if e, ok := ByUID(text, uid); ok {
			if e.UID != uid {
				t.Fatalf("asked for %d, got %d", uid, e.UID)
			}
			check(e)
		} else if e != (Entry{}) {
			t.Fatalf("not found, yet %+v", e)
		}
		if e, ok := ByName(text, name); ok {
			if e.Name != name {
				t.Fatalf("asked for %q, got %q", name, e.Name)
			}
			check(e)
		}
	})
}

func TestGroupName(t *testing.T) {
	text := []byte("root:x:0:\n# x:x:5:\nbad:x:5\n:x:5:\ntty:x:5:work\nagain:x:5:\nnochange:x:65535:\n")
	for gid, want := range map[uint32]string{0: "root", 5: "tty", 6: "", 65535: ""} {
		name, ok := GroupName(text, gid)
		if name != want || ok != (want != "") {
			t.Errorf("group %d is %q, %v, want %q", gid, name, ok, want)
		}
	}
}

func FuzzGroups(f *testing.F) {
	f.Add([]byte("a:x:1:alice,bob\nroot:x:0:alice\n"), "alice", false, 3)
	f.Add([]byte("::65535:,\n"), ",", true, -1)
	f.Fuzz(func(t *testing.T, text []byte, name string, allowZero bool, max int) {
		dst := []uint32{100}
		got := Groups(dst, text, name, allowZero, max)
		if got[0] != 100 || len(got) > 1 && len(got) > max {
			t.Fatalf("max %d: %v", max, got)
		}
		for i, gid := range got {
			if gid == 0 && !allowZero || gid == 0xFFFF || gid == 0xFFFFFFFF || slices.Contains(got[:i], gid) {
				t.Fatalf("gid %d in %v", gid, got)
			}
		}
	})
}
