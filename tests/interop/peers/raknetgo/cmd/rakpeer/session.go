package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"hash"
	"sync"

	"github.com/sandertv/go-raknet"

	"twisted-rudp.test/raknetgo/internal/pattern"
)

// A plan is what every session of this program does.
type plan struct {
	echo       bool
	series     pattern.Series
	expect     int
	closeAfter int
}

func (p *plan) register() {
	flag.BoolVar(&p.echo, "echo", false, "send each message back; else it is counted and digested only")
	flag.IntVar(&p.series.Count, "send", 0, "messages to send at the start")
	flag.IntVar(&p.series.Seed, "seed", 1, "seed of those")
	flag.IntVar(&p.series.Size, "size", 0, "length of each of them, 0: of all lengths")
	flag.IntVar(&p.series.Longest, "longest", 1350, "longest of them, where they are of all lengths")
	flag.IntVar(&p.expect, "expect", 0, "report a digest when so many messages are received")
	flag.IntVar(&p.closeAfter, "closeafter", 0, "close when so many messages are received")
}

type session struct {
	number int
	conn   *raknet.Conn
	plan   *plan

	mu       sync.Mutex // guards what follows
	messages int
	bytes    int
	framed   hash.Hash // of each message with its length in front
}

func newSession(number int, conn *raknet.Conn, p *plan) *session {
	return &session{number: number, conn: conn, plan: p, framed: sha256.New()}
}

func (s *session) start() {
	go s.read()
	if s.plan.series.Count > 0 {
		go s.send(s.plan.series)
	}
}

// lots is how often a session must say that it has ended. While a message waits
// go-raknet draws between that and the end, each time anew.
const lots = 64

func (s *session) next() (message []byte, err error) {
	for range lots {
		if message, err = s.conn.ReadPacket(); err == nil {
			break
		}
	}
	return message, err
}

func (s *session) read() {
	for {
		message, err := s.next()
		if err != nil {
			report("ended", fields{"session": s.number, "reason": err.Error()})
			return
		}
		count := s.account(message)
		if s.plan.echo {
			s.write(message)
		}
		if count == s.plan.expect {
			s.reportReceived("received")
		}
		if count == s.plan.closeAfter {
			s.close()
		}
	}
}

func (s *session) account(message []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages++
	s.bytes += len(message)
	binary.Write(s.framed, binary.LittleEndian, uint32(len(message)))
	s.framed.Write(message)
	return s.messages
}

func (s *session) reportReceived(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	report(event, fields{
		"session": s.number, "messages": s.messages, "bytes": s.bytes,
		"framed": hex.EncodeToString(s.framed.Sum(nil)),
	})
}

func (s *session) send(series pattern.Series) {
	for i := range series.Count {
		if !s.write(series.Message(i)) {
			return
		}
	}
	report("sent", fields{"session": s.number, "messages": series.Count})
}

func (s *session) write(message []byte) bool {
	if _, err := s.conn.Write(message); err != nil {
		report("unsent", fields{"session": s.number, "reason": err.Error()})
		return false
	}
	return true
}

// close begins to close; "ended" tells when go-raknet has done so.
func (s *session) close() {
	s.conn.Close()
	report("closed", fields{"session": s.number})
}
