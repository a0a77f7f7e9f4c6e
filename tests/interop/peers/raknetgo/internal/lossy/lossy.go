// Package lossy drops datagrams at random between a session and its socket, and
// counts those that pass.
package lossy

import (
	"context"
	"math/rand"
	"net"
	"sync"
	"sync/atomic"
)

// A Link loses a share of what passes through its sockets, in both directions,
// by a seeded generator.
type Link struct {
	probability float64
	mu          sync.Mutex
	random      *rand.Rand

	Sent, Received, Lost atomic.Int64 // datagrams
}

// New makes a link that loses this share (0 to 1) of each direction.
func New(probability float64, seed int64) *Link {
	return &Link{probability: probability, random: rand.New(rand.NewSource(seed))}
}

func (l *Link) passes(counter *atomic.Int64) bool {
	lost := l.probability > 0 && l.draw() < l.probability
	if lost {
		counter = &l.Lost
	}
	counter.Add(1)
	return !lost
}

func (l *Link) draw() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random.Float64()
}

// ListenPacket is what a listener opens its socket with.
func (l *Link) ListenPacket(network, address string) (net.PacketConn, error) {
	socket, err := net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	enlarge(socket)
	return &listening{socket, l}, nil
}

// DialContext is what a dialler opens its socket with.
func (l *Link) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	enlarge(socket)
	return &dialled{socket, l}, nil
}

// enlarge the buffers of a socket: RakNet has no window that would keep a sender
// from overrunning those that a system gives by default.
func enlarge(socket any) {
	const size = 4 << 20
	if udp, ok := socket.(*net.UDPConn); ok {
		udp.SetReadBuffer(size)
		udp.SetWriteBuffer(size)
	}
}

type listening struct {
	net.PacketConn
	link *Link
}

func (s *listening) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.PacketConn.ReadFrom(p)
		if err != nil || s.link.passes(&s.link.Received) {
			return n, from, err
		}
	}
}

func (s *listening) WriteTo(p []byte, to net.Addr) (int, error) {
	if !s.link.passes(&s.link.Sent) {
		return len(p), nil
	}
	return s.PacketConn.WriteTo(p, to)
}

type dialled struct {
	net.Conn
	link *Link
}

func (s *dialled) Read(p []byte) (int, error) {
	for {
		n, err := s.Conn.Read(p)
		if err != nil || s.link.passes(&s.link.Received) {
			return n, err
		}
	}
}

func (s *dialled) Write(p []byte) (int, error) {
	if !s.link.passes(&s.link.Sent) {
		return len(p), nil
	}
	return s.Conn.Write(p)
}
