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
	"maps"
	"net"
	"os"

	kcp "github.com/xtaci/kcp-go/v5"

	"twisted-rudp.test/kcpgo/internal/settings"
)

// message is how long those of echo jobs and of the warm-up are.
//
// The warm-up comes first in a session, before anything is measured. A
// listener's session advertises whatever window is left until it is tuned, and
// may never announce a better one by itself: data sent before that would wait
// for a window probe.
const message = 64

type bench struct {
	settings.Settings
	job, role, address            string
	seconds, every                float64
	count, sessions, warmUp, size int

	gauge gauge // nil if servers of the job measure nothing
}

func main() {
	b := &bench{}
	b.Register()
	flag.StringVar(&b.job, "job", "bulk", "bulk, echo, idle or messages")
	flag.StringVar(&b.role, "role", "both", "both, server or client")
	flag.StringVar(&b.address, "addr", "127.0.0.1:0", "where the server listens")
	flag.Float64Var(&b.seconds, "seconds", 3, "how long bulk, idle and messages measure")
	flag.IntVar(&b.count, "count", 5000, "round trips of echo")
	flag.IntVar(&b.sessions, "sessions", 1, "how many at the same time")
	flag.IntVar(&b.warmUp, "warmup", 20, "messages exchanged beforehand")
	flag.IntVar(&b.size, "size", 1000, "bytes of a timed message")
	flag.Float64Var(&b.every, "every", 20, "milliseconds between two of those")
	flag.Parse()
	check(b.Check())
	jobs := map[string]job{"bulk": b.bulk, "echo": b.echo, "idle": b.idle, "messages": b.messages}
	if jobs[b.job] == nil {
		check(fmt.Errorf("no job is called %q", b.job))
	}
	switch b.job {
	case "bulk":
		b.gauge = &meter{}
	case "messages":
		b.gauge = &stopwatch{size: b.size, expected: b.sessions * b.messagesOf()}
	}
	if b.role != "client" {
		b.serve()
	}
	if b.role == "server" {
		json.NewEncoder(os.Stdout).Encode(map[string]any{"port": port(b.address)})
		io.Copy(io.Discard, os.Stdin)
		b.finish(map[string]any{"cpu_seconds": cpuSeconds()})
	} else {
		b.finish(jobs[b.job]())
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

// finish prints a result, with what the server has measured if that is here.
func (b *bench) finish(result map[string]any) {
	if b.role != "client" && b.gauge != nil {
		maps.Copy(result, b.gauge.result())
	}
	if b.role != "server" {
		snmp := kcp.DefaultSnmp.Copy()
		result["segments"], result["retransmitted"] = snmp.OutSegs, snmp.RetransSegs
		result["expired"] = snmp.LostSegs
	}
	json.NewEncoder(os.Stdout).Encode(result)
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
