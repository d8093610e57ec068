package needs

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// said is a test that only notes what is wrong.
type said struct {
	testing.TB
	text string
}

func (s *said) Helper() {}

func (s *said) Errorf(format string, args ...any) { s.text += fmt.Sprintf(format, args...) }

func TestPage(t *testing.T) {
	p := Page{"docs/x.md", "one\ntwo\n"}
	for claim, c := range map[string]struct {
		ask  func(t testing.TB)
		want string
	}{
		"there":             {func(t testing.TB) { p.Has(t, "e\nt") }, ""},
		"not there":         {func(t testing.TB) { p.Has(t, "three") }, `docs/x.md does not have "three"`},
		"matches":           {func(t testing.TB) { p.Matches(t, `t.o\s`) }, ""},
		"does not match":    {func(t testing.TB) { p.Matches(t, `^t.o`) }, "docs/x.md has nothing like ^t.o"},
		"the same":          {func(t testing.TB) { p.Is(t, "one\ntwo\n") }, ""},
		"another line":      {func(t testing.TB) { p.Is(t, "one\n2\n") }, "docs/x.md, line 2:\n  is      \"two\"\n  must be \"2\""},
		"a line more":       {func(t testing.TB) { p.Is(t, "one\ntwo\n3\n") }, "docs/x.md, line 3:\n  is      \"\"\n  must be \"3\""},
		"an end of another": {func(t testing.TB) { p.Is(t, "one") }, "docs/x.md, line 2:\n  is      \"two\"\n  must be \"(its end)\""},
	} {
		s := &said{}
		c.ask(s)
		assert.Equal(t, c.want, s.text, claim)
	}
}
