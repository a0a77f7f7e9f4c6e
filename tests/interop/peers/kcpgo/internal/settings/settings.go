// Package settings holds what a kcp-go session can be tuned with, as flags that
// both programs of this module share.
package settings

import (
	"flag"
	"fmt"
	"net"

	kcp "github.com/xtaci/kcp-go/v5"

	"twisted-rudp.test/kcpgo/internal/crypt"
	"twisted-rudp.test/kcpgo/internal/lossy"
)

// Settings of all sessions of a program.
type Settings struct {
	NoDelay, Interval, Resend, NC int
	SendWindow, ReceiveWindow     int
	MTU                           int
	Mode                          string
	ACKNoDelay, WriteDelay        bool
	Crypt, Key                    string
	DataShards, ParityShards      int
	SocketBuffer                  int
	Loss                          float64
	LossSeed                      int64

	block kcp.BlockCrypt
}

// Register adds the flags to the command line.
func (s *Settings) Register() {
	flag.IntVar(&s.NoDelay, "nodelay", 1, "first of the four settings of KCP: 0 or 1")
	flag.IntVar(&s.Interval, "interval", 10, "milliseconds between two flushes")
	flag.IntVar(&s.Resend, "resend", 2, "skips after which a segment is sent again, 0: never")
	flag.IntVar(&s.NC, "nc", 1, "1: no congestion window")
	flag.IntVar(&s.SendWindow, "sndwnd", 1024, "send window in segments")
	flag.IntVar(&s.ReceiveWindow, "rcvwnd", 1024, "receive window in segments")
	flag.IntVar(&s.MTU, "mtu", 1400, "largest UDP payload")
	flag.StringVar(&s.Mode, "mode", "stream", "stream or messages")
	flag.BoolVar(&s.ACKNoDelay, "acknodelay", false, "acknowledge each datagram at once")
	flag.BoolVar(&s.WriteDelay, "writedelay", false, "let writes wait for the next flush")
	flag.StringVar(&s.Crypt, "crypt", "null", "cipher, by kcptun's names")
	flag.StringVar(&s.Key, "key", "", "key in hexadecimal")
	flag.IntVar(&s.DataShards, "datashard", 0, "data packets of an FEC group, 0: no FEC")
	flag.IntVar(&s.ParityShards, "parityshard", 0, "parity packets of an FEC group")
	flag.IntVar(&s.SocketBuffer, "sockbuf", 4<<20, "bytes of socket buffer, each direction")
	flag.Float64Var(&s.Loss, "loss", 0, "share of datagrams lost, 0 to 1, in each direction")
	flag.Int64Var(&s.LossSeed, "lossseed", 1, "seed of the loss")
}

// Check reads what the flags said.
func (s *Settings) Check() (err error) {
	if s.Mode != "stream" && s.Mode != "messages" {
		return fmt.Errorf("mode is stream or messages, not %q", s.Mode)
	}
	s.block, err = crypt.New(s.Crypt, s.Key)
	return err
}

// Tune a session that was dialled or accepted.
func (s *Settings) Tune(session *kcp.UDPSession) {
	session.SetNoDelay(s.NoDelay, s.Interval, s.Resend, s.NC)
	session.SetWindowSize(s.SendWindow, s.ReceiveWindow)
	session.SetMtu(s.MTU)
	session.SetStreamMode(s.Mode == "stream")
	session.SetACKNoDelay(s.ACKNoDelay)
	session.SetWriteDelay(s.WriteDelay)
}

func (s *Settings) socket(address string) (net.PacketConn, error) {
	local, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	network := "udp"
	if local.IP.To4() != nil {
		network = "udp4"
	}
	socket, err := net.ListenUDP(network, local)
	if err != nil {
		return nil, err
	}
	socket.SetReadBuffer(s.SocketBuffer)
	socket.SetWriteBuffer(s.SocketBuffer)
	if s.Loss == 0 {
		return socket, nil
	}
	return lossy.Wrap(socket, s.Loss, s.LossSeed), nil
}

// Listener with the socket under it, which Listener.Close leaves open.
type Listener struct {
	*kcp.Listener
	Socket net.PacketConn
}

// Listen on host:port.
func (s *Settings) Listen(address string) (*Listener, error) {
	socket, err := s.socket(address)
	if err != nil {
		return nil, err
	}
	listener, err := kcp.ServeConn(s.block, s.DataShards, s.ParityShards, socket)
	if err != nil {
		return nil, err
	}
	return &Listener{listener, socket}, nil
}

// Dial from a local address; the session owns its socket. The conversation is
// the caller's to choose.
func (s *Settings) Dial(remote, local string, conv uint32) (*kcp.UDPSession, error) {
	to, err := net.ResolveUDPAddr("udp", remote)
	if err != nil {
		return nil, err
	}
	socket, err := s.socket(local)
	if err != nil {
		return nil, err
	}
	session, err := kcp.NewConn4(conv, to, s.block, s.DataShards, s.ParityShards, true, socket)
	if err != nil {
		return nil, err
	}
	s.Tune(session)
	return session, nil
}
