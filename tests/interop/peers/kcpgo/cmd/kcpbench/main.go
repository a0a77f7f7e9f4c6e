// Command kcpbench measures kcp-go the way tests/benchmarks/worker.py measures
// us: same jobs, same warm-up, same result line.
//
// With -role both the two ends are in this process. A server prints
// {"port": n} first, and its result when standard input ends.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"

	"twisted-rudp.test/kcpgo/internal/settings"
)

const (
	// message is what echo jobs and the warm-up send.
	message = 64
	// warmUp is how many bytes of a session a server echoes before it only
	// counts. A listener's session advertises whatever window is left until
	// it is tuned, and may never announce a better one by itself: data sent
	// before that would wait for a window probe.
	warmUp = 20 * message
)

type bench struct {
	settings.Settings
	job, role, address string
	seconds            float64
	count, sessions    int

	received atomic.Int64 // bytes that servers got after the warm-up
	first    atomic.Int64 // when the first of them came, ns since the epoch
	last     atomic.Int64
}

func main() {
	b := &bench{}
	b.Register()
	flag.StringVar(&b.job, "job", "bulk", "bulk, echo or idle")
	flag.StringVar(&b.role, "role", "both", "both, server or client")
	flag.StringVar(&b.address, "addr", "127.0.0.1:0", "where the server listens")
	flag.Float64Var(&b.seconds, "seconds", 3, "how long bulk and idle measure")
	flag.IntVar(&b.count, "count", 5000, "round trips of echo")
	flag.IntVar(&b.sessions, "sessions", 1000, "pairs of idle")
	flag.Parse()
	check(b.Check())
	if b.role != "client" {
		b.serve()
	}
	jobs := map[string]func() map[string]any{"bulk": b.bulk, "echo": b.echo, "idle": b.idle}
	switch {
	case b.role == "server":
		json.NewEncoder(os.Stdout).Encode(map[string]any{"port": port(b.address)})
		io.Copy(io.Discard, os.Stdin)
		elapsed := float64(b.last.Load()-b.first.Load()) / 1e9
		finish(map[string]any{"bytes": b.received.Load(), "seconds": elapsed})
	case jobs[b.job] != nil:
		finish(jobs[b.job]())
	default:
		check(fmt.Errorf("no job is called %q", b.job))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func port(address string) int {
	udp, err := net.ResolveUDPAddr("udp", address)
	check(err)
	return udp.Port
}

// finish prints a result. What the whole process used is in it unless the job
// has measured a part of that.
func finish(result map[string]any) {
	if result["cpu_seconds"] == nil {
		result["cpu_seconds"] = cpuSeconds()
	}
	snmp := kcp.DefaultSnmp.Copy()
	result["segments"], result["retransmitted"] = snmp.OutSegs, snmp.RetransSegs
	json.NewEncoder(os.Stdout).Encode(result)
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

func (b *bench) answer(session *kcp.UDPSession) {
	buffer := make([]byte, 1<<16)
	echoed := 0
	for {
		limit := len(buffer)
		if b.job == "bulk" && echoed < warmUp {
			limit = warmUp - echoed
		}
		n, err := session.Read(buffer[:limit])
		if err != nil {
			return
		}
		if b.job != "bulk" || echoed < warmUp {
			echoed += n
			session.Write(buffer[:n])
			continue
		}
		now := time.Now().UnixNano()
		b.first.CompareAndSwap(0, now)
		b.last.Store(now)
		b.received.Add(int64(n))
	}
}

func (b *bench) dial() *kcp.UDPSession {
	var conv uint32
	binary.Read(rand.Reader, binary.LittleEndian, &conv)
	session, err := b.Dial(b.address, ":0", conv)
	check(err)
	return session
}

// exchange sends a message and waits until it is back.
func exchange(session *kcp.UDPSession, buffer []byte) {
	_, err := session.Write(buffer)
	check(err)
	_, err = io.ReadFull(session, buffer)
	check(err)
}
