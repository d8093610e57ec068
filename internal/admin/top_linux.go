package admin

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"jail/internal/control"
	"jail/internal/count"
	"jail/internal/tty"
	"jail/internal/usage"
)

// TopOptions say how Top shows what jails use.
type TopOptions struct {
	// Once shows it once, JSON so for programs.
	Once, JSON bool
	// Every is how often it is shown, and how long the processor's time is measured.
	Every time.Duration
}

// topJail is a jail of "top --json": jail-init(8).
type topJail struct {
	Jail      string  `json:"jail"`
	PID       int     `json:"pid"`
	Sessions  uint32  `json:"sessions"`
	Processes int     `json:"processes"`
	CPU       float64 `json:"cpu_percent"`
	Memory    uint64  `json:"memory_bytes"`
	From      string  `json:"from"`
}

// topList is all of it.
type topList struct {
	Version int       `json:"v"`
	Seconds float64   `json:"seconds"`
	Jails   []topJail `json:"jails"`
}

// Top shows what the jails that run use: again and again on a terminal, until it is
// interrupted, and once otherwise.
func Top(opt Options, how TopOptions) error {
	live := !how.Once && !how.JSON
	if f, ok := opt.Stdout.(*os.File); live && (!ok || !isTerminal(int(f.Fd()))) {
		live = false
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(stop)
	over := func() {}
	if !live {
		over = opt.waiting("measuring for %v", how.Every)
	}
	before, since := topSample(opt)
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(how.Every):
		}
		now, at := topSample(opt)
		over()
		list := compare(before, now, at.Sub(since))
		before, since = now, at
		switch {
		case how.JSON:
			return printJSON(opt.Stdout, list, "")
		case !live:
			return printTop(opt.Stdout, list)
		}
		fmt.Fprint(opt.Stdout, "\x1b[H\x1b[J") // the top of the screen, and nothing below
		if err := printTop(opt.Stdout, list); err != nil {
			return err
		}
	}
}

func isTerminal(fd int) bool {
	_, err := tty.GetTermios(fd)
	return err == nil
}

// sampled is what is known of one jail at a time.
type sampled struct {
	pid      int
	sessions uint32
	usage    usage.Usage
}

// topSample asks all jails at once who they are, and the kernel what they use.
func topSample(opt Options) (map[string]sampled, time.Time) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	room := make(chan struct{}, 64)
	all, first := map[string]sampled{}, map[string]int{}
	for _, name := range Running(opt) {
		asking.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			c, err := control.Open(opt.RuntimeDir, name, false)
			if err != nil {
				return
			}
			defer c.Close()
			mu.Lock()
			defer mu.Unlock()
			all[name], first[name] = sampled{pid: c.PID, sessions: c.Status.Sessions}, c.PID
		})
	}
	asking.Wait()
	at := time.Now()
	used := usage.Places{}.Of(first)
	for name, s := range all {
		s.usage = used[name]
		all[name] = s
	}
	return all, at
}

// compare makes the list of two samples, the busiest jail first.
func compare(before, now map[string]sampled, between time.Duration) topList {
	list := topList{Version: 1, Seconds: float64(between.Milliseconds()) / 1000, Jails: []topJail{}}
	for name, s := range now {
		j := topJail{Jail: name, PID: s.pid, Sessions: s.sessions, Processes: s.usage.Processes, Memory: s.usage.Memory, From: "proc"}
		if s.usage.Cgroup {
			j.From = "cgroup"
		}
		// Of another start, or by another measure, a difference says nothing. Times of
		// processes that end come a moment later.
		if b, there := before[name]; there && b.pid == s.pid && b.usage.Cgroup == s.usage.Cgroup && between > 0 && s.usage.CPU > b.usage.CPU {
			j.CPU = float64(int64(1000*float64(s.usage.CPU-b.usage.CPU)/float64(between))) / 10
		}
		list.Jails = append(list.Jails, j)
	}
	slices.SortFunc(list.Jails, func(a, b topJail) int {
		return cmp.Or(cmp.Compare(b.CPU, a.CPU), cmp.Compare(b.Memory, a.Memory), cmp.Compare(a.Jail, b.Jail))
	})
	return list
}

func printTop(out io.Writer, list topList) error {
	tw := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "JAIL\tPID\tSESSIONS\tPROCESSES\tCPU\tMEMORY\tBY")
	for _, j := range list.Jails {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%.1f%%\t%s\t%s\n", j.Jail, j.PID, j.Sessions, j.Processes, j.CPU, count.Size(j.Memory), j.From)
	}
	return tw.Flush()
}
