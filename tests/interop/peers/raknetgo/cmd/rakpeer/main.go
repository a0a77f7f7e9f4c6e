// Command rakpeer is a go-raknet program for tests to talk to.
//
// What it does is set by flags. It reports what happens as JSON objects, one a
// line, on standard output, and takes orders the same way on standard input:
//
//	{"do": "send", "session": 1, "seed": 2, "count": 3, "size": 9}  send messages
//	{"do": "report", "session": 1}                                  tell what was received
//	{"do": "latency", "session": 1}                                 tell the latency
//	{"do": "close", "session": 1}                                   close a session
//	{"do": "ping", "address": "127.0.0.1:19132"}                    ping a server
//	{"do": "counters"}                                              tell of datagrams
//
// It ends when standard input does, so it never outlives its parent, or after
// -lifetime at the latest.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sandertv/go-raknet"

	"twisted-rudp.test/raknetgo/internal/lossy"
	"twisted-rudp.test/raknetgo/internal/pattern"
)

type fields map[string]any

var output = struct {
	sync.Mutex
	*json.Encoder
}{Encoder: json.NewEncoder(os.Stdout)}

func report(event string, details fields) {
	line := fields{"event": event}
	for name, value := range details {
		line[name] = value
	}
	output.Lock()
	defer output.Unlock()
	output.Encode(line)
}

func fail(err error) {
	report("error", fields{"message": err.Error()})
	os.Exit(1)
}

type order struct {
	Do      string `json:"do"`
	Session int    `json:"session"`
	Seed    int    `json:"seed"`
	Count   int    `json:"count"`
	Size    int    `json:"size"`
	Address string `json:"address"`
}

type peer struct {
	role, address, motd string
	cookies             bool
	mtu                 uint
	sessions            int
	plan                plan

	link  *lossy.Link
	log   *slog.Logger
	mu    sync.Mutex
	known []*session
}

func main() {
	p := &peer{log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	p.plan.register()
	flag.StringVar(&p.role, "role", "server", "server or client")
	flag.StringVar(&p.address, "addr", "127.0.0.1:0", "where to listen, or whom to dial")
	flag.StringVar(&p.motd, "motd", "", "what a server answers pings with")
	flag.BoolVar(&p.cookies, "cookies", true, "whether a server asks for cookies")
	flag.UintVar(&p.mtu, "mtu", 0, "largest MTU, 0: what go-raknet has")
	flag.IntVar(&p.sessions, "sessions", 1, "how many sessions a client opens at the start")
	loss := flag.Float64("loss", 0, "share of datagrams lost, 0 to 1, in each direction")
	seed := flag.Int64("lossseed", 1, "seed of the loss")
	lifetime := flag.Duration("lifetime", 5*time.Minute, "end after this time whatever happens")
	flag.Parse()
	time.AfterFunc(*lifetime, func() { fail(fmt.Errorf("still running after %v", *lifetime)) })
	p.link = lossy.New(*loss, *seed)
	if p.role == "server" {
		p.serve()
	} else {
		for range p.sessions {
			p.dial()
		}
	}
	p.obey()
	p.counters("end")
}

func (p *peer) serve() {
	config := raknet.ListenConfig{
		ErrorLog: p.log, UpstreamPacketListener: p.link,
		DisableCookies: !p.cookies, MaxMTU: uint16(p.mtu),
	}
	listener, err := config.Listen(p.address)
	if err != nil {
		fail(err)
	}
	listener.PongData([]byte(p.motd))
	report("listening", fields{"port": listener.Addr().(*net.UDPAddr).Port})
	go func() {
		for {
			accepted, err := listener.Accept()
			if err != nil {
				return
			}
			p.enter("accepted", accepted.(*raknet.Conn))
		}
	}()
}

func (p *peer) dialer() raknet.Dialer {
	return raknet.Dialer{ErrorLog: p.log, UpstreamDialer: p.link, MaxMTU: uint16(p.mtu)}
}

func (p *peer) dial() {
	dialled, err := p.dialer().Dial(p.address)
	if err != nil {
		fail(err)
	}
	p.enter("dialled", dialled)
}

func (p *peer) enter(event string, conn *raknet.Conn) {
	p.mu.Lock()
	s := newSession(len(p.known)+1, conn, &p.plan)
	p.known = append(p.known, s)
	p.mu.Unlock()
	report(event, fields{"session": s.number})
	s.start()
}

func (p *peer) find(number int) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number < 1 || number > len(p.known) {
		fail(fmt.Errorf("there is no session %d", number))
	}
	return p.known[number-1]
}

func (p *peer) obey() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			fail(err)
		}
		p.carryOut(o)
	}
}

func (p *peer) carryOut(o order) {
	switch o.Do {
	case "send":
		go p.find(o.Session).send(pattern.Series{
			Seed: o.Seed, Count: o.Count, Size: o.Size, Longest: p.plan.series.Longest,
		})
	case "report":
		p.find(o.Session).reportReceived("report")
	case "latency":
		latency := p.find(o.Session).conn.Latency()
		report("latency", fields{"session": o.Session, "seconds": latency.Seconds()})
	case "close":
		p.find(o.Session).close()
	case "ping":
		data, err := p.dialer().Ping(o.Address)
		if err != nil {
			fail(err)
		}
		report("pong", fields{"data": string(data)})
	case "counters":
		p.counters("counters")
	default:
		fail(fmt.Errorf("no order is called %q", o.Do))
	}
}

func (p *peer) counters(event string) {
	report(event, fields{"counters": fields{
		"sent": p.link.Sent.Load(), "received": p.link.Received.Load(), "lost": p.link.Lost.Load(),
	}})
}
