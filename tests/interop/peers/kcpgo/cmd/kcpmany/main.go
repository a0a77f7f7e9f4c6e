// Command kcpmany is a crowd of KCP sessions so light that a server beside it on the same machine
// can be measured with a hundred thousand of them. It speaks plain KCP by itself: each session has
// one message outstanding, acknowledges each answer at once, and repeats what is not acknowledged
// after a constant time. It prints the same lines as kcpcrowd.
//
// A few sockets serve all sessions. Each session has an address of 127.0.0.0/8 of its own, since
// kcp-go's server has one session for an address.
package main

import (
	"encoding/binary"
	"flag"
	"log"
	"net"
	"net/netip"
	"sort"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"twisted-rudp.test/kcpgo/internal/lines"
)

const (
	push, ack, ask, tell = 81, 82, 83, 84
	header               = 24
	window               = 1024
	firstConversation    = 0x10000
	// As much as each socket may be behind at once.
	buffers = 4 << 20
)

var (
	addr     = flag.String("addr", "127.0.0.1:0", "whom to dial")
	sessions = flag.Int("sessions", 1000, "how many")
	rate     = flag.Float64("rate", 2, "messages a second of each; 0: silence after the first")
	size     = flag.Int("size", 64, "bytes of a message")
	dial     = flag.Float64("dial", 1000, "new sessions a second")
	pending  = flag.Int("pending", 64, "most that wait for their first answer at a time")
	sockets  = flag.Int("sockets", 4, "how many sockets they share")
	warmup   = flag.Float64("warmup", 2, "seconds before measuring, after all are connected")
	seconds  = flag.Float64("seconds", 6, "seconds of measuring")
	timeout  = flag.Duration("timeout", time.Second, "after which a message is repeated")
	patience = flag.Duration("patience", 15*time.Second, "for the last answers, and without a first one")
)

// A session has at most one message outstanding.
type session struct {
	source  [4]byte
	sn, una uint32
	// The outstanding message has not been acknowledged, and its answer lacks so many bytes.
	unacknowledged bool
	lacking        int
	// When the outstanding message and those behind it were due.
	due []time.Time
	// When the first answer came.
	connected bool
}

// A repeat is looked at when its time comes.
type repeat struct {
	at    time.Time
	index int
	sn    uint32
}

// A share is the sessions of one socket. Its messages are due in the order of the sessions.
type share struct {
	sync.Mutex
	socket    *net.UDPConn
	server    netip.AddrPort
	first     int
	sessions  []session
	repeats   []repeat
	connected int
	// What is counted, since the end of the warm-up.
	from, end time.Time
	sent      int
	trips     []float64
	repeated  int
	begun     time.Time
	datagram  []byte
	control   []byte
}

func open(server netip.AddrPort, first, count int) *share {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		log.Fatal(err)
	}
	socket.SetReadBuffer(buffers)
	socket.SetWriteBuffer(buffers)
	s := &share{
		socket:   socket,
		server:   server,
		first:    first,
		sessions: make([]session, count),
		begun:    time.Now(),
		datagram: make([]byte, header+*size),
		control:  make([]byte, syscall.CmsgSpace(syscall.SizeofInet4Pktinfo)),
	}
	head := (*syscall.Cmsghdr)(unsafe.Pointer(&s.control[0]))
	head.Level, head.Type = syscall.IPPROTO_IP, syscall.IP_PKTINFO
	head.SetLen(syscall.CmsgLen(syscall.SizeofInet4Pktinfo))
	for i := range s.sessions {
		number := first + i + 2
		s.sessions[i].source = [4]byte{127, byte(1 + number>>16), byte(number >> 8), byte(number)}
	}
	return s
}

// send sends one segment of a session. The lock is held.
func (s *share) send(index int, command byte, stamp, sn uint32, length int) {
	each := &s.sessions[index]
	datagram := s.datagram[:header+length]
	binary.LittleEndian.PutUint32(datagram, uint32(firstConversation+s.first+index))
	datagram[4], datagram[5] = command, 0
	binary.LittleEndian.PutUint16(datagram[6:], window)
	binary.LittleEndian.PutUint32(datagram[8:], stamp)
	binary.LittleEndian.PutUint32(datagram[12:], sn)
	binary.LittleEndian.PutUint32(datagram[16:], each.una)
	binary.LittleEndian.PutUint32(datagram[20:], uint32(length))
	info := (*syscall.Inet4Pktinfo)(unsafe.Pointer(&s.control[syscall.CmsgLen(0)]))
	info.Spec_dst = each.source
	// What a full buffer refuses is repeated as what is lost.
	s.socket.WriteMsgUDPAddrPort(datagram, s.control, s.server)
}

// ask sends the outstanding message, for the first time or again. The lock is held.
func (s *share) ask(index int, now time.Time) {
	each := &s.sessions[index]
	s.send(index, push, uint32(now.Sub(s.begun).Milliseconds()), each.sn, *size)
	s.repeats = append(s.repeats, repeat{now.Add(*timeout), index, each.sn})
}

// message adds a message that is due; it waits for the answers to those before it.
func (s *share) message(index int, due time.Time) {
	s.Lock()
	defer s.Unlock()
	each := &s.sessions[index]
	each.due = append(each.due, due)
	if !due.Before(s.from) && due.Before(s.end) {
		s.sent++
	}
	if len(each.due) == 1 {
		each.unacknowledged, each.lacking = true, *size
		s.ask(index, time.Now())
	}
}

// again repeats what is not acknowledged, and says when to look again.
func (s *share) again(now time.Time) {
	s.Lock()
	defer s.Unlock()
	for len(s.repeats) > 0 && !s.repeats[0].at.After(now) {
		first := s.repeats[0]
		s.repeats = s.repeats[1:]
		each := &s.sessions[first.index]
		if each.unacknowledged && each.sn == first.sn {
			s.repeated++
			s.ask(first.index, now)
		}
	}
}

// acknowledged is told that everything before sn has arrived.
func (s *share) acknowledged(each *session, una uint32) {
	if each.unacknowledged && int32(una-each.sn) > 0 {
		each.unacknowledged = false
		each.sn++
	}
}

// answered ends an exchange, and begins the next one if its time has come. The lock is held.
func (s *share) answered(index int, now time.Time) {
	each := &s.sessions[index]
	due := each.due[0]
	if !each.connected {
		each.connected = true
		s.connected++
	} else if !due.Before(s.from) && due.Before(s.end) {
		s.trips = append(s.trips, now.Sub(due).Seconds()*1e6)
	}
	if each.due = each.due[1:]; len(each.due) == 0 {
		each.due = nil
		return
	}
	each.unacknowledged, each.lacking = true, *size
	s.ask(index, now)
}

// take takes a datagram in.
func (s *share) take(datagram []byte) {
	s.Lock()
	defer s.Unlock()
	now := time.Now()
	for len(datagram) >= header {
		index := int(binary.LittleEndian.Uint32(datagram)) - firstConversation - s.first
		length := int(binary.LittleEndian.Uint32(datagram[20:]))
		if index < 0 || index >= len(s.sessions) || length > len(datagram)-header {
			return
		}
		each := &s.sessions[index]
		stamp := binary.LittleEndian.Uint32(datagram[8:])
		sn := binary.LittleEndian.Uint32(datagram[12:])
		s.acknowledged(each, binary.LittleEndian.Uint32(datagram[16:]))
		switch datagram[4] {
		case ack:
			if sn == each.sn {
				s.acknowledged(each, sn+1)
			}
		case push:
			if int32(sn-each.una) > 0 {
				// Something before it is missing, and will be repeated with it.
				break
			}
			if sn == each.una {
				each.una++
				each.lacking -= length
			}
			s.send(index, ack, stamp, sn, 0)
			// Whoever answers has the question.
			if each.lacking <= 0 && len(each.due) > 0 {
				s.acknowledged(each, each.sn+1)
				s.answered(index, now)
			}
		case ask:
			s.send(index, tell, 0, 0, 0)
		}
		datagram = datagram[header+length:]
	}
}

func (s *share) read() {
	buffer := make([]byte, 65536)
	for {
		count, from, err := s.socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if from.Port() == s.server.Port() {
			s.take(buffer[:count])
		}
	}
}

// pace calls the function for each session in turn, so many a second, until it is told to stop.
// No more is slept than a repeat takes to become due.
func (s *share) pace(first time.Time, each float64, until func() bool, do func(int, time.Time)) {
	gap := float64(time.Second) / each
	for count := 0; !until(); {
		now := time.Now()
		for {
			due := first.Add(time.Duration(gap * float64(count)))
			if due.After(now) || until() {
				break
			}
			do(count, due)
			count++
		}
		s.again(now)
		next := time.Until(first.Add(time.Duration(gap * float64(count))))
		time.Sleep(max(min(next, 20*time.Millisecond), time.Millisecond))
	}
}

// connect has all sessions say something, and waits until all are answered, or nobody is for a
// while. Only so many wait for their first answer at a time: a server admits no more.
func (s *share) connect(perSecond float64, pending int) {
	gap := float64(time.Second) / perSecond
	first := time.Now()
	dialled, before, progress := 0, 0, first
	for {
		now := time.Now()
		s.Lock()
		connected := s.connected
		s.Unlock()
		if connected != before {
			before, progress = connected, now
		}
		if connected == len(s.sessions) || now.Sub(progress) > *patience {
			return
		}
		for dialled < len(s.sessions) && dialled-connected < pending {
			due := first.Add(time.Duration(gap * float64(dialled)))
			if due.After(now) {
				break
			}
			s.message(dialled, due)
			dialled++
		}
		s.again(now)
		time.Sleep(time.Millisecond)
	}
}

// measure exchanges messages until the end, and waits for the last answers.
func (s *share) measure(first time.Time) {
	over := func() bool { return !time.Now().Before(s.end) }
	if *rate == 0 {
		for !over() {
			time.Sleep(10 * time.Millisecond)
		}
		return
	}
	s.pace(first, *rate*float64(len(s.sessions)), over, func(count int, due time.Time) {
		if due.Before(s.end) {
			s.message(count%len(s.sessions), due)
		}
	})
	for limit := s.end.Add(*patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		s.again(time.Now())
		s.Lock()
		done := len(s.trips) == s.sent
		s.Unlock()
		if done {
			return
		}
	}
}

func together(shares []*share, do func(*share)) {
	var all sync.WaitGroup
	for _, each := range shares {
		all.Add(1)
		go func() {
			defer all.Done()
			do(each)
		}()
	}
	all.Wait()
}

func main() {
	flag.Parse()
	server, err := netip.ParseAddrPort(*addr)
	if err != nil {
		log.Fatal(err)
	}
	var shares []*share
	for i := range *sockets {
		first, last := *sessions*i / *sockets, *sessions*(i+1) / *sockets
		if last > first {
			shares = append(shares, open(server, first, last-first))
		}
	}
	for _, each := range shares {
		go each.read()
	}
	together(shares, func(s *share) {
		s.connect(*dial/float64(len(shares)), max(*pending/len(shares), 1))
	})
	first := time.Now()
	from := first.Add(time.Duration(*warmup * float64(time.Second)))
	end := from.Add(time.Duration(*seconds * float64(time.Second)))
	connected := 0
	for _, each := range shares {
		each.Lock()
		each.from, each.end = from, end
		connected += each.connected
		each.Unlock()
	}
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		together(shares, func(s *share) { s.measure(first) })
	}()
	time.Sleep(time.Until(from))
	lines.Say(map[string]any{"measuring": true})
	time.Sleep(time.Until(end))
	lines.Say(map[string]any{"measured": true})
	all.Wait()
	result := map[string]any{"connected": connected}
	sent, repeated := 0, 0
	var trips []float64
	for _, each := range shares {
		each.Lock()
		sent += each.sent
		repeated += each.repeated
		trips = append(trips, each.trips...)
		each.Unlock()
	}
	sort.Float64s(trips)
	result["sent"], result["answered"], result["repeated"] = sent, len(trips), repeated
	if n := len(trips); n > 0 {
		result["p50_us"] = trips[n/2]
		result["p99_us"] = trips[n*99/100]
		result["max_us"] = trips[n-1]
	}
	lines.Say(result)
}
