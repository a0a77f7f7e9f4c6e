// Package pattern makes messages that both ends can make from two numbers, so
// that nothing but a digest has to be compared. tests/interop/pattern.py makes
// the same.
package pattern

import (
	"crypto/sha3"
	"fmt"
)

// UserID is the first byte of every message: what stands below 0x80 would be
// taken for one of RakNet's own.
const UserID = 0xfe

// A Series is so many messages. Number i is Size bytes long if that is given,
// else 1 + 977 i mod Longest.
type Series struct {
	Seed, Count, Size, Longest int
}

// Message number i: UserID, then SHAKE128 of the text "seed:i".
func (s Series) Message(i int) []byte {
	length := s.Size
	if length == 0 {
		length = 1 + 977*i%s.Longest
	}
	rest := sha3.SumSHAKE128(fmt.Appendf(nil, "%d:%d", s.Seed, i), length)
	return append([]byte{UserID}, rest...)[:length]
}
