package supervise

import "container/heap"

// Timers are deadlines by key, one for each. Setting one and taking the next are
// logarithmic in their number.
type Timers struct {
	heap timerHeap
}

type timer struct {
	at  int64
	key int
}

type timerHeap struct {
	list []timer
	of   map[int]int // key to place
}

func (h *timerHeap) Len() int           { return len(h.list) }
func (h *timerHeap) Less(a, b int) bool { return h.list[a].at < h.list[b].at }
func (h *timerHeap) Swap(a, b int) {
	h.list[a], h.list[b] = h.list[b], h.list[a]
	h.of[h.list[a].key], h.of[h.list[b].key] = a, b
}
func (h *timerHeap) Push(x any) {
	h.of[x.(timer).key] = len(h.list)
	h.list = append(h.list, x.(timer))
}
func (h *timerHeap) Pop() any {
	last := h.list[len(h.list)-1]
	h.list = h.list[:len(h.list)-1]
	delete(h.of, last.key)
	return last
}

// Set makes at the deadline of key, or takes it away if at is 0.
func (t *Timers) Set(key int, at int64) {
	if t.heap.of == nil {
		t.heap.of = map[int]int{}
	}
	i, known := t.heap.of[key]
	switch {
	case known && at == 0:
		heap.Remove(&t.heap, i)
	case known && t.heap.list[i].at != at:
		t.heap.list[i].at = at
		heap.Fix(&t.heap, i)
	case !known && at != 0:
		heap.Push(&t.heap, timer{at, key})
	}
}

// Next is the first deadline there is, 0 without any.
func (t *Timers) Next() int64 {
	if len(t.heap.list) == 0 {
		return 0
	}
	return t.heap.list[0].at
}

// Take takes a key whose deadline has come, if there is one.
func (t *Timers) Take(now int64) (key int, ok bool) {
	if len(t.heap.list) == 0 || t.heap.list[0].at > now {
		return 0, false
	}
	return heap.Pop(&t.heap).(timer).key, true
}
