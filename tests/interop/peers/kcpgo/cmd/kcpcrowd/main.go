// Command kcpcrowd is a crowd of kcp-go sessions that exchange small messages at a steady rate
// with a server that echoes them, or such a server.
package main

import (
	"flag"
	"io"
	"log"
	"math/rand"
	"sort"
	"sync"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"

	"twisted-rudp.test/kcpgo/internal/lines"
)

var (
	role     = flag.String("role", "client", "client or server")
	addr     = flag.String("addr", "127.0.0.1:0", "where to listen, or whom to dial")
	sessions = flag.Int("sessions", 1000, "how many clients")
	rate     = flag.Float64("rate", 10, "messages a second of each; 0: one message, then silence")
	size     = flag.Int("size", 64, "bytes of a message")
	warmup   = flag.Float64("warmup", 2, "seconds before measuring")
	seconds  = flag.Float64("seconds", 6, "seconds of measuring")
	patience = 5 * time.Second
)

func tune(session *kcp.UDPSession) {
	session.SetNoDelay(1, 10, 2, 1)
	session.SetWindowSize(1024, 1024)
	session.SetStreamMode(true)
	session.SetWriteDelay(false)
}

func serve() {
	listener, err := kcp.ListenWithOptions(*addr, nil, 0, 0)
	if err != nil {
		log.Fatal(err)
	}
	listener.SetReadBuffer(4 << 20)
	listener.SetWriteBuffer(4 << 20)
	lines.Say(map[string]any{"address": listener.Addr().String()})
	for {
		session, err := listener.AcceptKCP()
		if err != nil {
			log.Fatal(err)
		}
		tune(session)
		go func() {
			io.CopyBuffer(struct{ io.Writer }{session}, struct{ io.Reader }{session}, make([]byte, 4096))
		}()
	}
}

// A tally is what all clients together have seen since the warm-up.
type tally struct {
	sync.Mutex
	from  time.Time
	sent  int
	trips []float64
}

func (t *tally) left(at time.Time) {
	if at.After(t.from) {
		t.Lock()
		t.sent++
		t.Unlock()
	}
}

func (t *tally) came(sent time.Time) {
	trip := time.Since(sent).Seconds() * 1e6
	if sent.After(t.from) {
		t.Lock()
		t.trips = append(t.trips, trip)
		t.Unlock()
	}
}

// read counts the answers to what was sent at these times.
func read(session *kcp.UDPSession, sent <-chan time.Time, seen *tally) {
	buffer := make([]byte, *size)
	for at := range sent {
		session.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(session, buffer); err != nil {
			break
		}
		seen.came(at)
	}
	for range sent {
		// Nobody reads any more, and the writer must not wait.
	}
}

// write sends a message at each beat until the end.
func write(session *kcp.UDPSession, sent chan<- time.Time, first, end time.Time, seen *tally) {
	defer close(sent)
	buffer := make([]byte, *size)
	if *rate == 0 {
		time.Sleep(time.Until(first))
		sent <- time.Now()
		session.Write(buffer)
		return
	}
	period := time.Duration(float64(time.Second) / *rate)
	for beat := first.Add(time.Duration(rand.Float64() * float64(period))); beat.Before(end); beat = beat.Add(period) {
		time.Sleep(time.Until(beat))
		now := time.Now()
		sent <- now
		session.Write(buffer)
		seen.left(now)
	}
}

func crowd() {
	var all sync.WaitGroup
	dialled := make([]*kcp.UDPSession, *sessions)
	for i := range dialled {
		session, err := kcp.DialWithOptions(*addr, nil, 0, 0)
		if err != nil {
			log.Fatal(err)
		}
		tune(session)
		dialled[i] = session
	}
	start := time.Now().Add(200 * time.Millisecond)
	seen := &tally{from: start.Add(time.Duration(*warmup * float64(time.Second)))}
	end := seen.from.Add(time.Duration(*seconds * float64(time.Second)))
	for i, session := range dialled {
		sent := make(chan time.Time, 4096)
		first := start
		if *rate == 0 {
			// Not all at one moment.
			first = start.Add(time.Duration(float64(i) / float64(*sessions) * *warmup * float64(time.Second)))
		}
		all.Add(2)
		go func() {
			defer all.Done()
			read(session, sent, seen)
		}()
		go func() {
			defer all.Done()
			write(session, sent, first, end, seen)
		}()
	}
	time.Sleep(time.Until(seen.from))
	lines.Say(map[string]any{"measuring": true})
	time.Sleep(time.Until(end))
	lines.Say(map[string]any{"measured": true})
	all.Wait()
	sort.Float64s(seen.trips)
	result := map[string]any{"sent": seen.sent, "answered": len(seen.trips)}
	if n := len(seen.trips); n > 0 {
		result["p50_us"] = seen.trips[n/2]
		result["p99_us"] = seen.trips[n*99/100]
	}
	lines.Say(result)
}

func main() {
	flag.Parse()
	if *role == "server" {
		serve()
	} else {
		crowd()
	}
}
