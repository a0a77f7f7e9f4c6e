package main

import (
	"encoding/binary"
	"math"
	"sort"
	"sync"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"
)

// A gauge is what servers of a job measure.
type gauge interface {
	// take what came in a session; rest is what this returned before.
	take(data, rest []byte) []byte
	result() map[string]any
}

// meter counts how much came.
type meter struct {
	sync.Mutex
	received    int64
	first, last time.Time
}

func (m *meter) take(data, _ []byte) []byte {
	m.Lock()
	defer m.Unlock()
	m.last = time.Now()
	if m.received == 0 {
		m.first = m.last
	}
	m.received += int64(len(data))
	return nil
}

func (m *meter) result() map[string]any {
	m.Lock()
	defer m.Unlock()
	return map[string]any{"bytes": m.received, "seconds": m.last.Sub(m.first).Seconds()}
}

// stopwatch times how long messages were on their way.
type stopwatch struct {
	sync.Mutex
	size, expected int
	trips          []float64
}

func (s *stopwatch) take(data, rest []byte) []byte {
	s.Lock()
	defer s.Unlock()
	now := time.Now().UnixNano()
	data = append(rest, data...)
	for ; len(data) >= s.size; data = data[s.size:] {
		sent := int64(binary.BigEndian.Uint64(data))
		s.trips = append(s.trips, float64(now-sent)/1e3)
	}
	return data
}

// result counts messages that have not come as ones that took long, for JSON
// has no infinity.
func (s *stopwatch) result() map[string]any {
	s.Lock()
	defer s.Unlock()
	came := len(s.trips)
	for len(s.trips) < s.expected {
		s.trips = append(s.trips, math.MaxFloat64)
	}
	result := map[string]any{
		"bytes": came * s.size, "messages": came, "missing": s.expected - came,
	}
	quantiles(s.trips, result)
	return result
}

func quantiles(trips []float64, result map[string]any) {
	sort.Float64s(trips)
	result["p50_us"], result["p99_us"] = trips[len(trips)/2], trips[len(trips)*99/100]
}

func (b *bench) serve() {
	listener, err := b.Listen(b.address)
	check(err)
	b.address = listener.Addr().String()
	go func() {
		for {
			session, err := listener.AcceptKCP()
			if err != nil {
				return
			}
			b.Tune(session)
			go b.answer(session)
		}
	}()
}

// answer sends back everything, or in a job that measures the warm-up.
func (b *bench) answer(session *kcp.UDPSession) {
	buffer := make([]byte, 1<<16)
	left := b.warmUp * message
	var rest []byte
	for {
		limit := len(buffer)
		if b.gauge != nil && left > 0 {
			limit = left
		}
		n, err := session.Read(buffer[:limit])
		if err != nil {
			return
		}
		if b.gauge != nil && left == 0 {
			rest = b.gauge.take(buffer[:n], rest)
			continue
		}
		left = max(left-n, 0)
		session.Write(buffer[:n])
	}
}
