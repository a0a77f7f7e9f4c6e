// Package lossy drops datagrams at random between a session and its socket.
package lossy

import (
	"math/rand"
	"net"
	"sync"
)

// Conn is a packet connection that loses a share of what passes, in both
// directions, by a seeded generator.
//
// It hides the methods of *net.UDPConn, so that kcp-go sends and receives one
// datagram per call through it and not in batches around it.
type Conn struct {
	net.PacketConn
	probability float64
	mu          sync.Mutex
	random      *rand.Rand
}

// Wrap puts loss (0 to 1, of each direction) in front of a socket.
func Wrap(inner net.PacketConn, probability float64, seed int64) *Conn {
	return &Conn{PacketConn: inner, probability: probability, random: rand.New(rand.NewSource(seed))}
}

func (c *Conn) lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.Float64() < c.probability
}

// ReadFrom waits for a datagram that is not lost.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err != nil || !c.lost() {
			return n, from, err
		}
	}
}

// WriteTo reports a lost datagram as sent.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.lost() {
		return len(p), nil
	}
	return c.PacketConn.WriteTo(p, to)
}
