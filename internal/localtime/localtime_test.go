package localtime

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// location is what package time makes of a rule: the oracle.
func location(t testing.TB, rule string) *time.Location {
	t.Helper()
	// tzfile(5): two headers, the second with one local time type, of UTC, and no transition.
	header := func(types, chars uint32) string {
		var b []byte
		for _, n := range []uint32{0, 0, 0, 0, types, chars} {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return "TZif2" + strings.Repeat("\x00", 15) + string(b)
	}
	one := strings.Repeat("\x00", 6) + "UTC\x00"
	loc, err := time.LoadLocationFromTZData("x", []byte(header(1, 4)+one+header(1, 4)+one+"\n"+rule+"\n"))
	require.NoError(t, err)
	return loc
}

const layout = "Mon Jan _2 15:04:05 2006"

func shown(rule string, at int64) string {
	local, _ := Of(rule, at)
	return string(Append(nil, local))
}

func TestAgreesWithPackageTime(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, rule := range []string{
		"UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "<-03>3", "<+0530>-5:30", "NZST-12NZDT,M9.5.0,M4.1.0/3",
		"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "IST-2IDT,M3.4.4/26,M10.5.0", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "IST-1GMT0,M10.5.0,M3.5.0/1",
		"AAA3BBB,J59/0,J60/4", "AAA3BBB,59,300/23:59:59", "XXX-24", "XXX24", "CST6CDT", "EET-2EEST,M3.5.0/0,M10.5.5/0",
	} {
		loc := location(t, rule)
		_, ok := Of(rule, 0)
		require.True(t, ok, rule)
		for range 4_000 {
			at := random.Int64N(1 << 32)
			require.Equal(t, time.Unix(at, 0).In(loc).Format(layout), shown(rule, at), "%s at %d", rule, at)
		}
		// The seconds around each change.
		for at := int64(1<<30 - 40*day); at < 1<<30+800*day; at += 30 * minute {
			for _, d := range []int64{-1, 0} {
				require.Equal(t, time.Unix(at+d, 0).In(loc).Format(layout), shown(rule, at+d), "%s at %d", rule, at+d)
			}
		}
	}
	for _, at := range []int64{0, 951782399, 951782400, 1<<31 - 1, 1<<32 - 1, 4107542400} {
		require.Equal(t, time.Unix(at, 0).UTC().Format(layout), shown("UTC0", at))
	}
}

func TestWhatIsNoRule(t *testing.T) {
	for _, rule := range []string{
		"", "U0", "UTC", "UTC25", "UTC0x", "UTC0:60", "UTC0:", ":Europe/Paris", "<UTC0", "CET-1CEST,", "CET-1CEST,M3.5.0", "CET-1CEST,M0.5.0,M10.5.0",
		"CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,J0,J1", "CET-1CEST,366,1", "CET-1CEST,1/168,1",
		"CET-1CEST,M3.5.0,M10.5.0,", "CET-999999999999999999999", "\x00", strings.Repeat("A", 1000), strings.Repeat("<", 1000),
	} {
		at, ok := Of(rule, 1234567890)
		assert.False(t, ok, "%.40q", rule)
		assert.EqualValues(t, 1234567890, at, "it is UTC then")
	}
}

func FuzzRule(f *testing.F) {
	f.Add("CET-1CEST,M3.5.0,M10.5.0/3", uint32(1<<30))
	f.Add("IST-2IDT,M3.4.4/26,M10.5.0", uint32(1<<31))
	f.Fuzz(func(t *testing.T, rule string, at uint32) {
		local, _ := Of(rule, int64(at))
		require.LessOrEqual(t, max(local-int64(at), int64(at)-local), int64(25*hour))
		require.Len(t, Append(nil, local), 24)
	})
}
