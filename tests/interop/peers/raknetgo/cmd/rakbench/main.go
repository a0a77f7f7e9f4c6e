// Command rakbench measures go-raknet the way tests/benchmarks/worker.py measures
// us: same jobs, same warm-up, same result line.
//
// With -role both the two ends are in this process. A server prints
// {"port": n} first, and its result when standard input ends.
//
// go-raknet has no flow control: a sender without end fills the memory, then
// trips the listener's limit of 2048 datagrams. So the bulk job keeps to a window
// of messages, which the server frees by quarters.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/sandertv/go-raknet"

	"twisted-rudp.test/raknetgo/internal/lossy"
	"twisted-rudp.test/raknetgo/internal/pattern"
)

const (
	// message is the length of what echo jobs and the warm-up send.
	message = 64
	// warmUp is how many messages of a session a server of the bulk job echoes
	// before it only counts.
	warmUp = 20
)

type bench struct {
	job, role, address string
	seconds            float64
	count, sessions    int
	chunk, window      int

	link     *lossy.Link  // loses nothing
	received atomic.Int64 // bytes that servers got after the warm-up
	first    atomic.Int64 // when the first of them came, ns since the epoch
	last     atomic.Int64
}

func main() {
	b := &bench{link: lossy.New(0, 1)}
	flag.StringVar(&b.job, "job", "bulk", "bulk, echo or idle")
	flag.StringVar(&b.role, "role", "both", "both, server or client")
	flag.StringVar(&b.address, "addr", "127.0.0.1:0", "where the server listens")
	flag.Float64Var(&b.seconds, "seconds", 3, "how long bulk and idle measure")
	flag.IntVar(&b.count, "count", 5000, "round trips of echo")
	flag.IntVar(&b.sessions, "sessions", 1000, "pairs of idle")
	flag.IntVar(&b.chunk, "chunk", 1350, "length of a message of bulk")
	flag.IntVar(&b.window, "window", 128, "messages of bulk on their way")
	flag.Parse()
	if b.role != "client" {
		b.serve()
	}
	jobs := map[string]func() map[string]any{"bulk": b.bulk, "echo": b.echo, "idle": b.idle}
	switch {
	case b.role == "server":
		address, err := net.ResolveUDPAddr("udp", b.address)
		check(err)
		json.NewEncoder(os.Stdout).Encode(map[string]any{"port": address.Port})
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

// finish prints a result. What the whole process used is in it unless the job
// has measured a part of that.
func finish(result map[string]any) {
	if result["cpu_seconds"] == nil {
		result["cpu_seconds"] = cpuSeconds()
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

func (b *bench) serve() {
	listener, err := raknet.ListenConfig{UpstreamPacketListener: b.link}.Listen(b.address)
	check(err)
	b.address = listener.Addr().String()
	go func() {
		for {
			session, err := listener.Accept()
			if err != nil {
				return
			}
			go b.answer(session.(*raknet.Conn))
		}
	}()
}

func (b *bench) answer(session *raknet.Conn) {
	for number := 0; ; number++ {
		got, err := session.ReadPacket()
		if err != nil {
			return
		}
		if b.job != "bulk" || number < warmUp {
			session.Write(got)
			continue
		}
		now := time.Now().UnixNano()
		b.first.CompareAndSwap(0, now)
		b.last.Store(now)
		b.received.Add(int64(len(got)))
		if (number-warmUp+1)%b.quarter() == 0 {
			session.Write([]byte{pattern.UserID})
		}
	}
}

func (b *bench) quarter() int { return max(1, b.window/4) }

func (b *bench) dial() *raknet.Conn {
	session, err := raknet.Dialer{UpstreamDialer: b.link}.Dial(b.address)
	check(err)
	return session
}

// exchange sends a message and waits until it is back.
func exchange(session *raknet.Conn, data []byte) {
	_, err := session.Write(data)
	check(err)
	_, err = session.ReadPacket()
	check(err)
}
