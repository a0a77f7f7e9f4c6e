// Command kcppeer is a kcp-go program for tests to talk to.
//
// What it does is set by flags. It reports what happens as JSON objects, one a
// line, on standard output, and takes orders the same way on standard input:
//
//	{"do": "dial", "conv": 7}                          another session (client)
//	{"do": "send", "session": 1, "bytes": 9, "seed": 2} send so much of a pattern
//	{"do": "write", "session": 1, "hex": "6869"}        send these bytes
//	{"do": "oob", "session": 1, "hex": "6869"}          send them out of band (FEC only)
//	{"do": "report", "session": 1}                      tell what was received
//	{"do": "resume", "session": 1}                      read on after -stopafter
//	{"do": "close", "session": 1}                       close a session
//	{"do": "close-listener"}                            close the socket (server)
//	{"do": "counters"}                                  tell kcp-go's counters
//
// It ends when standard input does, so it never outlives its parent, or after
// -lifetime at the latest.
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"

	"twisted-rudp.test/kcpgo/internal/settings"
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
	Conv    uint32 `json:"conv"`
	Bytes   int64  `json:"bytes"`
	Seed    int64  `json:"seed"`
	Hex     string `json:"hex"`
}

type peer struct {
	settings.Settings
	role, address, local string
	conv                 uint
	sessions             int
	lifetime             time.Duration
	plan                 plan

	listener *settings.Listener
	mu       sync.Mutex
	known    []*session
}

func main() {
	p := &peer{}
	p.Register()
	p.plan.register()
	flag.StringVar(&p.role, "role", "server", "server or client")
	flag.StringVar(&p.address, "addr", "127.0.0.1:0", "where to listen, or whom to dial")
	flag.StringVar(&p.local, "local", "127.0.0.1:0", "where a client binds its first session; later ones take the same port")
	flag.UintVar(&p.conv, "conv", 0, "conversation of a client's first session, 0: a random one")
	flag.IntVar(&p.sessions, "sessions", 1, "how many sessions a client opens at the start, each on a port of its own")
	flag.DurationVar(&p.lifetime, "lifetime", 5*time.Minute, "end after this time whatever happens")
	flag.Parse()
	if err := p.Check(); err != nil {
		fail(err)
	}
	time.AfterFunc(p.lifetime, func() { fail(fmt.Errorf("still running after %v", p.lifetime)) })
	if p.role == "server" {
		p.serve()
	} else {
		for range p.sessions {
			p.dial(p.local, uint32(p.conv))
		}
	}
	p.obey()
	p.counters("end")
}

func (p *peer) serve() {
	listener, err := p.Listen(p.address)
	if err != nil {
		fail(err)
	}
	p.listener = listener
	report("listening", fields{"port": listener.Addr().(*net.UDPAddr).Port})
	go func() {
		for {
			accepted, err := listener.AcceptKCP()
			if err != nil {
				return
			}
			p.Tune(accepted)
			p.enter("accepted", accepted)
		}
	}()
}

func (p *peer) dial(local string, conv uint32) {
	if conv == 0 {
		binary.Read(rand.Reader, binary.LittleEndian, &conv)
	}
	dialled, err := p.Dial(p.address, local, conv)
	if err != nil {
		fail(err)
	}
	p.enter("dialled", dialled)
}

func (p *peer) enter(event string, conn *kcp.UDPSession) {
	p.mu.Lock()
	s := newSession(len(p.known)+1, conn, p.Mode == "messages", &p.plan)
	p.known = append(p.known, s)
	p.mu.Unlock()
	report(event, fields{
		"session": s.number,
		"conv":    conn.GetConv(),
		"local":   conn.LocalAddr().(*net.UDPAddr).Port,
		"remote":  conn.RemoteAddr().(*net.UDPAddr).Port,
	})
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
	lines.Buffer(nil, 1<<20)
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
	case "dial":
		first := p.find(1).conn.LocalAddr().String()
		p.dial(first, o.Conv)
	case "send":
		go p.find(o.Session).send(o.Bytes, o.Seed)
	case "write":
		data, err := hex.DecodeString(o.Hex)
		if err != nil {
			fail(err)
		}
		p.find(o.Session).write(data)
	case "oob":
		data, err := hex.DecodeString(o.Hex)
		if err == nil {
			err = p.find(o.Session).conn.SendOOB(data)
		}
		if err != nil {
			fail(err)
		}
	case "report":
		p.find(o.Session).reportReceived("report")
	case "resume":
		p.find(o.Session).resume()
	case "close":
		p.find(o.Session).close()
	case "close-listener":
		p.listener.Close()
		p.listener.Socket.Close()
		report("listener-closed", nil)
	case "counters":
		p.counters("counters")
	default:
		fail(fmt.Errorf("no order is called %q", o.Do))
	}
}

func (p *peer) counters(event string) {
	snmp := kcp.DefaultSnmp.Copy()
	values := fields{}
	names := snmp.Header()
	for i, text := range snmp.ToSlice() {
		values[names[i]] = json.Number(text)
	}
	report(event, fields{"counters": values})
}
