// Package pattern makes the test data: bytes that both ends can make from a
// number, so that nothing but a digest has to be compared.
//
// The stream of a seed is cut into blocks of BlockSize bytes; block i is
// SHAKE128 of the text "seed:i". tests/interop/pattern.py makes the same.
package pattern

import (
	"crypto/sha3"
	"fmt"
)

// BlockSize is the length of a block.
const BlockSize = 1 << 16

// Reader gives the stream of one seed, without end.
type Reader struct {
	seed  int64
	index int64
	rest  []byte
}

// New starts at the first byte of the stream.
func New(seed int64) *Reader { return &Reader{seed: seed} }

// Read fills p; it never fails.
func (r *Reader) Read(p []byte) (int, error) {
	filled := 0
	for filled < len(p) {
		if len(r.rest) == 0 {
			r.rest = sha3.SumSHAKE128([]byte(fmt.Sprintf("%d:%d", r.seed, r.index)), BlockSize)
			r.index++
		}
		n := copy(p[filled:], r.rest)
		r.rest = r.rest[n:]
		filled += n
	}
	return filled, nil
}
