package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"hash"
	"sync"

	kcp "github.com/xtaci/kcp-go/v5"

	"twisted-rudp.test/kcpgo/internal/pattern"
)

// A plan is what every session of this program does.
type plan struct {
	echo        bool
	banner      string
	send, seed  int64
	messageSize int64
	expect      int64
	closeAfter  int64
	stopAfter   int64
}

func (p *plan) register() {
	flag.BoolVar(&p.echo, "echo", false, "send back what comes; else it is counted and digested only")
	flag.StringVar(&p.banner, "banner", "", "text to send before anything was received")
	flag.Int64Var(&p.send, "send", 0, "bytes of a pattern to send at the start")
	flag.Int64Var(&p.seed, "seed", 1, "seed of that pattern")
	flag.Int64Var(&p.messageSize, "messagesize", 1000, "longest message of a pattern (message mode)")
	flag.Int64Var(&p.expect, "expect", 0, "report a digest when so many bytes are received")
	flag.Int64Var(&p.closeAfter, "closeafter", 0, "close when so many bytes are received")
	flag.Int64Var(&p.stopAfter, "stopafter", 0, "stop reading when so many bytes are received")
}

// streamChunk is what one write of a pattern carries in stream mode.
const streamChunk = 1 << 16

type session struct {
	number   int
	conn     *kcp.UDPSession
	messages bool
	plan     *plan
	resumed  chan struct{}
	once     sync.Once

	mu       sync.Mutex // guards what follows
	received int64
	pieces   int64
	bytes    hash.Hash
	framed   hash.Hash // of each piece with its length in front
}

func newSession(number int, conn *kcp.UDPSession, messages bool, p *plan) *session {
	return &session{
		number: number, conn: conn, messages: messages, plan: p,
		resumed: make(chan struct{}), bytes: sha256.New(), framed: sha256.New(),
	}
}

func (s *session) start() {
	s.conn.SetOOBHandler(func(data []byte) {
		report("oob", fields{"session": s.number, "hex": hex.EncodeToString(data)})
	})
	go s.read()
	go func() {
		if s.plan.banner != "" {
			s.write([]byte(s.plan.banner))
		}
		if s.plan.send > 0 {
			s.send(s.plan.send, s.plan.seed)
		}
	}()
}

func (s *session) read() {
	buffer := make([]byte, 1<<16)
	for {
		n, err := s.conn.Read(buffer[:s.room(len(buffer))])
		if err != nil {
			report("ended", fields{"session": s.number, "reason": err.Error()})
			return
		}
		total := s.account(buffer[:n])
		if s.plan.echo {
			s.write(buffer[:n])
		}
		if !s.passed(total-int64(n), total) {
			return
		}
	}
}

// room is how much the next read may take, so that it ends exactly where the
// plan has something to be done.
func (s *session) room(most int) int {
	for _, mark := range []int64{s.plan.expect, s.plan.closeAfter, s.plan.stopAfter} {
		if left := mark - s.received; !s.messages && left > 0 {
			most = min(most, int(left))
		}
	}
	return most
}

func (s *session) account(piece []byte) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received += int64(len(piece))
	s.pieces++
	s.bytes.Write(piece)
	if s.messages {
		binary.Write(s.framed, binary.LittleEndian, uint32(len(piece)))
		s.framed.Write(piece)
	}
	return s.received
}

// passed does what the plan has between two counts of received bytes, and says
// whether to read on: kcp-go would give what it holds after a close as well.
func (s *session) passed(before, after int64) bool {
	crossed := func(mark int64) bool { return before < mark && mark <= after }
	if crossed(s.plan.expect) {
		s.reportReceived("received")
	}
	if crossed(s.plan.closeAfter) {
		s.close()
		return false
	}
	if crossed(s.plan.stopAfter) {
		s.reportReceived("stopped")
		<-s.resumed
	}
	return true
}

func (s *session) reportReceived(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	report(event, fields{
		"session": s.number, "bytes": s.received, "pieces": s.pieces,
		"sha256": hex.EncodeToString(s.bytes.Sum(nil)),
		"framed": hex.EncodeToString(s.framed.Sum(nil)),
	})
}

// send so many bytes of a pattern. In message mode message i is
// 1 + 977 i mod messageSize bytes long, the last one what is left.
func (s *session) send(bytes, seed int64) {
	source := pattern.New(seed)
	sum := sha256.New()
	buffer := make([]byte, streamChunk)
	for i, left := int64(0), bytes; left > 0; i++ {
		length := min(left, streamChunk)
		if s.messages {
			length = min(left, 1+977*i%s.plan.messageSize)
		}
		piece := buffer[:length]
		source.Read(piece)
		sum.Write(piece)
		if !s.write(piece) {
			return
		}
		left -= length
	}
	report("sent", fields{"session": s.number, "bytes": bytes, "sha256": hex.EncodeToString(sum.Sum(nil))})
}

func (s *session) write(data []byte) bool {
	if _, err := s.conn.Write(data); err != nil {
		report("unsent", fields{"session": s.number, "reason": err.Error()})
		return false
	}
	return true
}

func (s *session) resume() { s.once.Do(func() { close(s.resumed) }) }

func (s *session) close() {
	s.conn.Close()
	report("closed", fields{"session": s.number})
}
